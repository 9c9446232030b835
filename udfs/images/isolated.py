"""A function that may kill or hang its process, called in a child process.

A decoder in C can end a process by a bad file, and an exception handler does not see it. Here only
the child ends; the next call starts another one. The child is a new interpreter with no open file
of its parent's: a fork of a Spark worker would hold the worker's connection to the JVM open.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from pyspark import cloudpickle

from udfs.images.picture import Rejected

_START_LIMIT_S = 120.0
_READY = b"ready"


class Isolated:
    """Calls `function` in a child process that is kept from call to call.

    The function is sent with cloudpickle; its arguments and results with pickle. A call raises
    Rejected `crashes_decoder` where the child ends, by a signal or an exception (which it prints),
    and Rejected `decoder_hangs` after `time_limit_s`. To be used in a `with` statement.
    """

    def __init__(self, function: Callable[..., Any], *, time_limit_s: float) -> None:
        self._function = cloudpickle.dumps(function)
        self._time_limit_s = time_limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Isolated:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def __call__(self, *arguments: Any) -> Any:
        pipe = self._pipe or self._start()
        try:
            pipe.send(arguments)
            if not pipe.poll(self._time_limit_s):
                self._end()
                raise Rejected("decoder_hangs")
            return pipe.recv()
        except (EOFError, ConnectionError) as e:
            self._end()
            raise Rejected("crashes_decoder") from e

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            # The same search path as here, where Spark may have added archives to it.
            path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._pipe = pipe = Connection(ours.detach())
        try:
            pipe.send_bytes(self._function)
            if pipe.poll(_START_LIMIT_S) and pipe.recv_bytes() == _READY:
                return pipe
        except (EOFError, ConnectionError):
            pass
        self._end()
        raise RuntimeError("the decoders' child process does not start: see its error output")

    def _end(self) -> None:
        if self._pipe:
            self._pipe.close()
        if self._child:
            self._child.kill()
            self._child.wait()
        self._pipe = self._child = None


def _serve(descriptor: int) -> None:
    """The child: answers until its parent is gone."""
    with Connection(descriptor) as parent:
        function = cloudpickle.loads(parent.recv_bytes())
        parent.send_bytes(_READY)
        while True:
            try:
                arguments = parent.recv()
            except EOFError:
                return
            parent.send(function(*arguments))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

"""What the driver and the guards of ranks on other machines say to each other.

One TCP connection from each guard, on which each message is a JSON object in a line. A guard sends
`{"token": "..."}` first, then `{"rank": 0, "line": "text"}` for what its rank prints, and
`{"failed": 1}` where its rank failed, or `{"beat": 1}` when it has nothing to say. The driver
answers a beat with a beat, and sends `{"stop": 1}` to all when one rank has failed. Training does
not depend on the connection: a guard that lost it opens it anew, and what its rank printed is in
the executor's own log as well.

It takes the place of Spark's log streaming (pyspark.ml.torch.log_communication), which cuts a line
at 4 000 characters, loses its place in the stream where a message comes in two pieces, ends the
training where its socket drops (SPARK-59070), and takes lines from anybody on the network.

Standard library only: a guard starts in a tenth of a second.
"""

from __future__ import annotations

import json
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

BEAT_S = 10.0
"""A connection says something at least so often: clouds cut those that are idle for longer."""
_SILENCE_S = 3 * BEAT_S
_AGAIN_S = 2.0
_LONGEST_BYTES = 8 << 20
_LINES_AHEAD = 10_000


class Address(NamedTuple):
    """Where the driver listens, and the token that shows it a guard of its own."""

    host: str
    port: int
    token: str


class DriverChannel:
    """The driver's end. `show` gets each line that a rank printed, with the rank before it."""

    def __init__(self, host: str, bind: str, show: Callable[[str], None]) -> None:
        """Listen on a free port of the address `bind`, which guards reach as `host`."""
        self._show = show
        self._listener = socket.create_server((bind, 0))
        self.address = Address(host, self._listener.getsockname()[1], secrets.token_hex(16))
        self._lock = threading.Lock()
        self._guards: set[socket.socket] = set()
        self._stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Have all ranks stopped: those of the guards that are there, and of those to come."""
        with self._lock:
            self._stopped = True
            for guard in self._guards:
                with suppress(OSError):
                    _send(guard, {"stop": 1})

    def close(self) -> None:
        """Listen no more, and cut all connections. The ranks go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self._listener.close()
        with self._lock:
            for guard in self._guards:
                with suppress(OSError):
                    guard.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A connection that breaks or talks nonsense is closed; its guard opens another.
        with connection, suppress(OSError, ValueError):
            connection.settimeout(_SILENCE_S)
            lines = connection.makefile("rb")
            hello = json.loads(lines.readline(_LONGEST_BYTES))
            token = hello.get("token") if isinstance(hello, dict) else None
            if not secrets.compare_digest(str(token).encode(), self.address.token.encode()):
                return
            with self._lock:
                if self._stopped:
                    _send(connection, {"stop": 1})
                self._guards.add(connection)
            try:
                while line := lines.readline(_LONGEST_BYTES):
                    self._take(json.loads(line), connection)
            finally:
                with self._lock:
                    self._guards.discard(connection)

    def _take(self, message: dict[str, Any], connection: socket.socket) -> None:
        if "line" in message:
            self._show(f"[rank {message['rank']}] {message['line']}")
        elif "beat" in message:
            with self._lock:
                _send(connection, {"beat": 1})
        elif "failed" in message:
            self.stop()


class Link:
    """A guard's end. It never keeps a rank waiting, and no failure of it becomes the rank's."""

    def __init__(self, address: Address, rank: int) -> None:
        self.stop = threading.Event()
        """Set when the driver said that all ranks are to end."""
        self._address = address
        self._rank = rank
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue(_LINES_AHEAD)
        self._left_out = 0
        threading.Thread(target=self._talk, daemon=True).start()

    def line(self, text: str) -> None:
        """Show a line on the driver, or leave it out where too many wait for a connection."""
        try:
            self._messages.put_nowait({"rank": self._rank, "line": text})
        except queue.Full:
            self._left_out += 1

    def failed(self, within_s: float) -> bool:
        """Have all ranks stopped. Returns whether the driver has heard it within that time."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            with suppress(queue.Full):
                self._messages.put_nowait({"failed": 1})
            if self.stop.wait(1.0):
                return True
        return False

    def flush(self, within_s: float) -> None:
        """Wait until all has been sent, but not longer."""
        until = time.monotonic() + within_s
        while self._messages.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.02)

    def _talk(self) -> None:
        message = None
        while True:
            with suppress(OSError), _connected(self._address) as connection:
                threading.Thread(target=self._listen, args=(connection,), daemon=True).start()
                if self._left_out:
                    text = f"({self._left_out} lines are in the executor's log alone)"
                    _send(connection, {"rank": self._rank, "line": text})
                    self._left_out = 0
                while True:
                    if message is None:
                        with suppress(queue.Empty):
                            message = self._messages.get(timeout=BEAT_S)
                    _send(connection, message or {"beat": 1})
                    if message is not None:
                        self._messages.task_done()
                        message = None
            time.sleep(_AGAIN_S)

    def _listen(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError):
            for line in connection.makefile("rb"):
                if "stop" in json.loads(line):
                    self.stop.set()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # or the next message would be sent and lost


def _connected(address: Address) -> socket.socket:
    """A connection to the driver that has introduced itself. Raises OSError."""
    connection = socket.create_connection((address.host, address.port), timeout=_SILENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _send(connection, {"token": address.token})
    return connection


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")

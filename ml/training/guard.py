"""The process that stands between whoever starts a training and its ranks.

It starts the ranks of one machine, passes on what they print, each line with its rank before it,
and reports how each ended. It ends all of them when one fails, when it is told to, and when the
process that started it is gone; should it be killed itself, Linux ends the ranks. It is what
Spark's `torch_run_process_wrapper` is for, which loses the exit code.

`python -m ml.training.guard` reads what to do as JSON from standard input (`guarded` writes it)
and writes the outcomes as JSON to standard output; what ranks print goes to standard error.

Standard library only, so that it starts in a tenth of a second and stands on nothing that may fail.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple

from ml.training.channel import Address, Link

_POLL_S = 0.05
_GRACE_S = 3.0
"""From SIGTERM to SIGKILL. A rank that waits for a peer in a collective may not hear the first."""
_INTERRUPTED_GRACE_S = 60.0
"""The same where a user interrupts, and all ranks can still end their step and save."""
_TELL_WITHIN_S = 5.0
_PIECE_CHARACTERS = 1 << 20
"""A longer line is passed on in pieces of so many, for it has to be held in memory."""
_ERROR_LINES = 30
_ERROR_LINE_CHARACTERS = 2_000


class Outcome(NamedTuple):
    """How a rank ended. `exit_code` is negative for a signal, `ended_at` in Unix seconds.

    `error` is the last traceback that it printed, without one its last lines. `stopped`: the guard
    ended it. `heard`: the driver knows that it failed, and has the other ranks stopped.
    """

    rank: int
    exit_code: int
    error: str
    ended_at: float
    stopped: bool
    heard: bool


def guarded(
    command: Sequence[str],
    ranks: Sequence[Mapping[str, str]],
    environment: Mapping[str, str],
    *,
    may_go_on: Callable[[], bool],
    channel: Address | None = None,
    echo: bool = True,
) -> list[Outcome]:
    """Run a command once for each of `ranks` under a guard; return when all have ended.

    `ranks` holds what is added to `environment` for each, RANK among it. The ranks are stopped
    once `may_go_on`, which is asked every second, says no; a KeyboardInterrupt gives them a minute
    to end by themselves. `channel` is where the driver listens; `echo` shows what ranks print on
    this process's standard error.
    Raises RuntimeError where the guard itself was killed.
    """
    task = {
        "parent": os.getpid(),
        "command": list(command),
        "ranks": [dict(r) for r in ranks],
        "channel": channel,
        "echo": echo,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "ml.training.guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(environment),
        text=True,
    )
    try:
        given: str | None = json.dumps(task)
        while True:
            try:
                said, _ = process.communicate(given, timeout=1.0)
                break
            except subprocess.TimeoutExpired:
                given = None
            if not may_go_on():
                process.terminate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_INTERRUPTED_GRACE_S + 2)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S + 2)
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"the guard of the ranks ended with exit code {process.returncode}")
    return [Outcome(*o) for o in json.loads(said)]


class _Rank:
    """One process of the training, in a process group of its own, with whatever it starts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.number = int(environment["RANK"])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_with_the_guard,
        )
        self.tail: deque[str] = deque(maxlen=200)
        self.ended_at: float | None = None
        self._silent_at = math.inf
        self.stopped = False
        self.heard = False

    def read(self, show: Callable[[int, str], None]) -> None:
        self._reader = threading.Thread(target=self._read, args=(show,), daemon=True)
        self._reader.start()

    def _read(self, show: Callable[[int, str], None]) -> None:
        stream = self.process.stdout
        assert stream is not None
        # A bare carriage return, by which progress bars redraw a line, ends a line here as well.
        while piece := stream.readline(_PIECE_CHARACTERS):
            line = piece.removesuffix("\n")
            self.tail.append(line)
            show(self.number, line)
        self._silent_at = time.time()

    def has_ended(self) -> bool:
        """Whether it has; the first time, what it started is ended as well, and all is read."""
        if self.ended_at is None and self.process.poll() is not None:
            noticed_at = time.time()
            self.signal(signal.SIGKILL)
            self._reader.join(2.0)
            # Its peers' connections break at once, and they may end before the next look.
            self.ended_at = min(noticed_at, self._silent_at)
        return self.ended_at is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it started."""
        with suppress(ProcessLookupError, PermissionError):  # macOS: the latter for a zombie
            os.killpg(self.process.pid, number)

    def outcome(self) -> Outcome:
        assert self.ended_at is not None
        code = self.process.returncode
        error = last_words(list(self.tail)) if code else ""
        return Outcome(self.number, code, error, self.ended_at, self.stopped, self.heard)


def last_words(lines: Sequence[str]) -> str:
    """The last traceback in what a process printed; without one, its last lines."""
    begins = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    words = lines[begins[-1] :] if begins else lines[-10:]
    if len(words) > _ERROR_LINES:
        words = [words[0], "  ...", *words[-_ERROR_LINES:]]
    return "\n".join(line[:_ERROR_LINE_CHARACTERS] for line in words)


def _watch(task: Mapping[str, Any]) -> list[Outcome]:
    told_to_stop, interrupted = threading.Event(), threading.Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: told_to_stop.set())
    # All processes first and threads after: a fork takes along what other threads have locked.
    ranks = [_Rank(task["command"], environment) for environment in task["ranks"]]
    link = None
    if task["channel"]:
        link = Link(Address(*task["channel"]), ranks[0].number)
    show = _shower(sys.stderr if task["echo"] else None, link)
    for rank in ranks:
        rank.read(show)

    kill_at = math.inf
    while [r for r in ranks if not r.has_ended()]:
        failed = any(r.ended_at is not None and r.process.returncode for r in ranks)
        gone = os.getppid() != task["parent"]
        asked = told_to_stop.is_set() or (link is not None and link.stop.is_set())
        if failed or gone or asked or interrupted.is_set():
            grace = _GRACE_S if failed or gone or asked else _INTERRUPTED_GRACE_S
            if kill_at == math.inf:
                _stop(ranks, signal.SIGTERM)
            kill_at = min(kill_at, time.monotonic() + grace)
        if time.monotonic() > kill_at:
            _stop(ranks, signal.SIGKILL)
        time.sleep(_POLL_S)
    if link is not None:
        for rank in ranks:
            if rank.process.returncode and not rank.stopped:
                rank.heard = link.failed(_TELL_WITHIN_S)
        link.flush(_TELL_WITHIN_S)
    return [r.outcome() for r in ranks]


def _stop(ranks: Sequence[_Rank], number: signal.Signals) -> None:
    for rank in ranks:
        if rank.process.poll() is None:
            rank.stopped = True
            rank.signal(number)


def _shower(stream: IO[str] | None, link: Link | None) -> Callable[[int, str], None]:
    """What shows a line. Nothing that goes wrong in showing may reach the rank that printed it."""
    lock = threading.Lock()

    def show(rank: int, line: str) -> None:
        if stream is not None:
            with lock, suppress(OSError, ValueError):
                stream.write(f"[rank {rank}] {line}\n")
                stream.flush()
        if link is not None:
            link.line(line)

    return show


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_guard_pid = os.getpid()


def _end_with_the_guard() -> None:
    """In a new rank before its program: have Linux kill it when the guard is gone."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != _guard_pid:  # gone before that
            os._exit(1)


def main() -> None:
    outcomes = _watch(json.load(sys.stdin))
    with suppress(BrokenPipeError):  # nobody is left to hear it
        print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main()

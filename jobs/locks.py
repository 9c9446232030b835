"""Locks of files, which end with their process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import UsageError


@contextmanager
def locked(lock: Path, busy: str | None = None) -> Iterator[None]:
    """Hold a lock, whose file is made where it is missing.

    Where another process has it: waits, or with `busy` raises a UsageError that says so.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as e:
            raise UsageError(busy) from e
        yield

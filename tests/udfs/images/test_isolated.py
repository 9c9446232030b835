"""A function that kills its process, hangs or raises takes one call with it."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from udfs.images.isolated import Isolated
from udfs.images.picture import Rejected


def _fragile() -> Callable[[bytes], int]:
    """Nested, so that the child gets the function itself and need not find this file."""

    def fragile(content: bytes) -> int:
        if content == b"segfault":
            ctypes.string_at(0)  # reads address 0
        if content == b"hang":
            time.sleep(3600)
        if content == b"raise":
            raise ZeroDivisionError
        if content == b"pid":
            return os.getpid()
        return len(content)

    return fragile


def _reason(isolated: Isolated, content: bytes) -> str:
    with pytest.raises(Rejected) as rejected:
        isolated(content)
    return rejected.value.reason


def test_a_call_that_kills_its_process_takes_no_other_with_it() -> None:
    with Isolated(_fragile(), time_limit_s=60) as isolated:
        assert isolated(b"four") == 4
        assert _reason(isolated, b"segfault") == "crashes_decoder"
        assert isolated(b"four") == 4
        assert _reason(isolated, b"raise") == "crashes_decoder"
        assert isolated(bytes(9_000_000)) == 9_000_000


@pytest.mark.slow
def test_a_call_that_hangs_ends_after_its_time() -> None:
    with Isolated(_fragile(), time_limit_s=1) as isolated:
        isolated(b"")
        started = time.monotonic()
        assert _reason(isolated, b"hang") == "decoder_hangs"
        assert 1 <= time.monotonic() - started < 10
        assert isolated(b"four") == 4


def test_a_child_lives_from_call_to_call_and_no_longer_than_its_parent_wants() -> None:
    with Isolated(_fragile(), time_limit_s=60) as isolated:
        child = isolated(b"pid")
        assert child != os.getpid()
        assert isolated(b"pid") == child
    assert not Path(f"/proc/{child}").exists()


def test_arrays_come_back() -> None:
    with Isolated(lambda n: np.arange(n), time_limit_s=60) as isolated:
        assert isolated(5).tolist() == [0, 1, 2, 3, 4]

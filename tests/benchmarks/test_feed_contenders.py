"""What a pass over the training feed is said to take."""

from __future__ import annotations

import time
from multiprocessing import get_context

from benchmarks.feed_contenders import children_cpu_s


def _busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_processes_that_have_not_ended_are_counted() -> None:
    with get_context("spawn").Pool(2) as processes:
        before = children_cpu_s()
        processes.map(_busy, [0.2, 0.2], chunksize=1)
        assert children_cpu_s() - before > 0.3

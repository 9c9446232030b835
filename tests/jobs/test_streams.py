"""What a stream's runner makes of Spark's reports and of signals."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from jobs.streams import batch_of, ended_by_signals


def progress(**other: Any) -> dict[str, Any]:
    """A report of Spark's, with the fields that count."""
    offset = {"reservoirVersion": 4, "index": -1, "isStartingVersion": False}
    state = {
        "numRowsTotal": 30,
        "memoryUsedBytes": 2000,
        "numRowsDroppedByWatermark": 17,
        "customMetrics": {"rocksdbSstFileSize": 500},
    }
    return {
        "batchId": 3,
        "durationMs": {"addBatch": 400, "triggerExecution": 1500},
        "eventTime": {"watermark": "2015-12-01T17:40:00.000Z"},
        "stateOperators": [state],
        "sources": [{"endOffset": offset}],
        "observedMetrics": {"trips": {"rows": 12, "too_long": 1}},
        **other,
    }


def test_a_report_becomes_a_batch() -> None:
    batch = batch_of(progress())
    assert batch is not None
    assert (batch.number, batch.seconds, batch.late_rows) == (3, 1.5, 17)
    assert (batch.state_rows, batch.state_memory_bytes, batch.state_file_bytes) == (30, 2000, 500)
    assert (batch.count("trips"), batch.count("trips", "too_long"), batch.count("pairs")) == (
        *(12, 1, 0),
    )
    assert batch.watermark == "2015-12-01T17:40:00.000Z"
    # The next batch would begin with version 4, so all of 3 has been read.
    assert batch.source_version == 3


def test_a_report_that_nothing_came_is_no_batch() -> None:
    assert batch_of(progress(durationMs={"latestOffset": 5, "triggerExecution": 6})) is None


def test_what_is_not_known_yet_is_none() -> None:
    started = {"reservoirVersion": 4, "index": 7, "isStartingVersion": True}
    batch = batch_of(
        progress(
            sources=[{"endOffset": started}],
            eventTime={"watermark": "1970-01-01T00:00:00.000Z"},
        )
    )
    assert batch is not None
    assert (batch.watermark, batch.source_version) == (None, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_end_and_the_second_one_insists(number: signal.Signals) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda n, frame: came.append(n))
    try:
        with ended_by_signals() as asked:
            assert not asked.is_set()
            os.kill(os.getpid(), number)
            assert asked.is_set()
            assert came == []
            os.kill(os.getpid(), number)
            assert came == [number]
        os.kill(os.getpid(), number)
        assert came == [number, number]
    finally:
        signal.signal(number, before)

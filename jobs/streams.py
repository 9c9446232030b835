"""Running a stream: settings of its state, its batches as they end, and a clean way to end it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQuery

# State on disk, so that its size is not the heap's; after each batch only what changed is saved.
_STATE_CONF = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
}
_POLL_S = 0.5


@dataclass(frozen=True)
class Batch:
    """What Spark tells of a batch that is done; sizes of the state are those after it.

    `observed` holds the observed metrics by name and field, none where the sink had the batch
    from before a crash. `source_version` is the newest version of the source that was read whole.
    """

    number: int
    observed: Mapping[str, Mapping[str, int]]
    watermark: str | None
    state_rows: int
    state_memory_bytes: int
    state_file_bytes: int
    late_rows: int
    seconds: float
    source_version: int | None

    def count(self, metric: str, field: str = "rows") -> int:
        return int(self.observed.get(metric, {}).get(field) or 0)


def batch_of(progress: Mapping[str, Any]) -> Batch | None:
    """The batch of a progress report of Spark's; None where it only tells that nothing came."""
    if "addBatch" not in progress["durationMs"]:
        return None
    states = progress["stateOperators"]
    watermark = progress.get("eventTime", {}).get("watermark")
    return Batch(
        number=progress["batchId"],
        observed=progress.get("observedMetrics", {}),
        watermark=None
        if (watermark or "1970-01-01T00:00:00.000Z").startswith("1970")
        else watermark,
        state_rows=sum(s["numRowsTotal"] for s in states),
        state_memory_bytes=sum(s["memoryUsedBytes"] for s in states),
        state_file_bytes=sum(s["customMetrics"].get("rocksdbSstFileSize", 0) for s in states),
        late_rows=sum(s["numRowsDroppedByWatermark"] for s in states),
        seconds=progress["durationMs"]["triggerExecution"] / 1000,
        source_version=_whole_version(progress["sources"][0].get("endOffset")),
    )


@contextmanager
def state_settings(spark: SparkSession, partitions: int | None) -> Iterator[None]:
    """Settings that a stream takes from the session when it starts.

    Its state is cut into `partitions` (default one a core) when it starts for the first time, and
    stays so: Spark takes the number from the checkpoint from then on.
    """
    number = partitions or spark.sparkContext.defaultParallelism
    conf = {**_STATE_CONF, "spark.sql.shuffle.partitions": str(number)}
    before = {key: spark.conf.get(key, None) for key in conf}
    for key, value in conf.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            spark.conf.unset(key) if old is None else spark.conf.set(key, old)


@contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of breaking off whatever runs.

    Each does what it otherwise does when it comes a second time.
    """
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(
    query: StreamingQuery, asked_to_end: threading.Event, done: Callable[[Batch], None]
) -> None:
    """Call `done` after each batch until the stream ends, by itself or because it was asked to.

    A batch that runs when it is asked to end is given up, and done again by the next run. Raises
    what the stream failed with.
    """
    seen = -1
    try:
        while not asked_to_end.is_set() and not query.awaitTermination(_POLL_S):  # type: ignore[arg-type]
            seen = _report(query, seen, done)
    finally:
        query.stop()
        _report(query, seen, done)


def _report(query: StreamingQuery, seen: int, done: Callable[[Batch], None]) -> int:
    for progress in query.recentProgress:
        batch = batch_of(json.loads(progress.json))
        if batch and batch.number > seen:
            done(batch)
            seen = batch.number
    return seen


def _whole_version(offset: Any) -> int | None:
    """The newest version of a Delta table before an offset of Delta's own.

    None while a stream that began with a table's rows has not read them all.
    """
    if not isinstance(offset, Mapping) or offset.get("isStartingVersion", True):
        return None
    return int(offset["reservoirVersion"]) - 1

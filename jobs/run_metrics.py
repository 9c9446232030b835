"""Metrics of a training run on their way from its folder into ml.metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pyspark import inheritable_thread_target

from jobs.lake import Lake, quoted
from jobs.run import log
from ml.training.runs import RunFolder
from schemas import METRICS
from schemas.frames import frame_of

_EVERY_S = 10.0
_SHARE = 0.05
"""At most so much of the time goes into carrying: on a laptop Spark has the ranks' cores."""


class MetricsCarrier:
    """Merges the lines of metrics.jsonl by run, stage and step, so each step is there once.

    A step that was taken again after a restart replaces its row. Whatever an earlier driver
    carried or not: the first call begins at the first line.
    """

    def __init__(self, lake: Lake, run_id: str, folder: RunFolder) -> None:
        self._lake, self._run_id, self._folder = lake, run_id, folder
        self._after = 0
        self._lock = threading.Lock()

    def carry(self) -> int:
        """Carry the lines that are new; how many steps they were."""
        with self._lock:
            rows, end = self._folder.metrics(self._after)
            if rows:
                names = [column.name for column in METRICS.columns]
                values = [[self._row(row)[name] for name in names] for row in rows]
                same = " AND ".join(f"old.{name} = new.{name}" for name in METRICS.key)
                within = f"old.run_id = {quoted(self._run_id)} AND {same}"
                new = frame_of(self._lake.spark, values, METRICS.struct)
                self._lake.merge(METRICS, new, within)
            self._after = end
            return len(rows)

    def _row(self, line: dict[str, Any]) -> dict[str, Any]:
        return {**line, "run_id": self._run_id, "at": datetime.fromisoformat(line["at"])}

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """Carry every some seconds in a thread, and the rest at the end, however that comes."""
        ended = threading.Event()

        def work() -> None:
            took = 0.0
            while not ended.wait(max(_EVERY_S, took / _SHARE)):
                begun = time.monotonic()
                try:
                    self.carry()
                except Exception as e:
                    log(f"metrics are not carried into {METRICS.name} for now: {e}")
                took = time.monotonic() - begun

        thread = threading.Thread(target=inheritable_thread_target(self._lake.spark)(work))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.carry()

"""What models say in Spark's tasks, before it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.models_in_tasks import computed_once


def test_rows_are_computed_once_however_often_they_are_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"

    def ask(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            with asked.open("a", encoding="ascii") as file:
                file.write("x" * batch.num_rows)
            yield batch

    with computed_once(spark.range(5).mapInArrow(ask, "id bigint")) as rows:
        assert asked.read_text(encoding="ascii") == "xxxxx"
        assert [rows.count(), len(rows.collect())] == [5, 5]
        assert asked.read_text(encoding="ascii") == "xxxxx"
    assert not rows.is_cached

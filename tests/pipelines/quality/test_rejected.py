"""Reasons of rejected rows, ranked."""

from __future__ import annotations

from pyspark.sql import SparkSession

from pipelines.quality.rejected import ranked_reasons
from schemas.frames import frame_of


def test_reasons_are_ranked_with_the_first_and_the_last_row(spark: SparkSession) -> None:
    rejected = frame_of(
        spark,
        [
            ("f", 3, ["zero", "late"], "third"),
            ("f", 1, ["zero"], "first"),
            ("f", 2, ["late", "zero"], "second"),
            ("g", 0, ["odd"], "other"),
        ],
        "file_id STRING, source_row BIGINT, reasons ARRAY<STRING>, text STRING",
    )
    ranked = ranked_reasons(rejected, key=["file_id", "source_row"], shown="text").collect()
    assert [tuple(r) for r in ranked] == [
        ("zero", 3, 1, "first", "third"),
        ("late", 2, 0, "second", "third"),
        ("odd", 1, 1, "other", "other"),
    ]

"""Delivered rows with their names and hashes: record, figure_id, revision, and delivery ids."""

from __future__ import annotations

import hashlib

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

ROW = (
    *("unit", "position", "record", "problem", "member", "sha256", "image_bytes"),
    *("caption", "article_id", "patient_id", "licence", "published_split", "modality", "fields"),
)
"""What a format gives for each figure, beside what its images are read by.

`unit` names the list or shard, `position` the row's place in it, `problem` why there is no image.
"""
QUESTION = (
    *("unit", "position", "record", "figure_record", "question", "answer", "answer_type"),
    *("question_type", "language", "published_split", "fields"),
)
"""What a format gives for each question; `figure_record` is the figure's `record`."""

_DELIVERED = ("caption", "article_id", "patient_id", "licence", "published_split", "modality")
_ASKED = (
    *("figure_id", "question", "answer", "answer_type", "question_type", "language"),
    "published_split",
)


def with_records_told_apart(rows: DataFrame) -> DataFrame:
    """`#2`, `#3`, ... behind a record that came before, in the order of units and positions."""
    same = Window.partitionBy("record").orderBy("unit", "position")
    nth = F.row_number().over(same)
    told = F.when(nth > 1, F.concat("record", F.lit("#"), nth)).otherwise(F.col("record"))
    return rows.withColumn("told", told).withColumn("record", F.col("told")).drop("told")


def figure_id(source: str, record: str = "record") -> Column:
    return F.xxhash64(F.lit(source), F.col(record))


def with_figure_ids(rows: DataFrame, source: str) -> DataFrame:
    """Adds `source`, `figure_id` and `row_hash` (SHA-256 of all that was delivered)."""
    named = F.to_json(F.struct("record"))
    return rows.withColumns(
        {
            "source": F.lit(source),
            "figure_id": figure_id(source),
            "row_hash": F.sha2(F.concat(named, _content(F.col("sha256"))), 256),
        }
    )


def revision(sha256: Column) -> Column:
    """The hash of a figure with that image."""
    return F.xxhash64(_content(sha256))


def _content(sha256: Column) -> Column:
    # As JSON, because Spark's hash of columns passes over NULL: a text that moved from one column
    # into another would leave it as it was.
    fields = sorted_fields(F.col("fields"))
    return F.to_json(F.struct(sha256.alias("sha256"), *_DELIVERED, fields))


def with_question_ids(rows: DataFrame, source: str) -> DataFrame:
    """Adds `source`, `question_id`, `figure_id`, and `row_hash`; takes `figure_record` away."""
    about = F.when(F.col("figure_record").isNotNull(), figure_id(source, "figure_record"))
    named = rows.withColumns(
        {"source": F.lit(source), "question_id": figure_id(source), "figure_id": about}
    )
    return named.withColumn("row_hash", question_hash()).drop("figure_record")


def question_hash() -> Column:
    """SHA-256 of a question as delivered, of rows from a delivery and from the table alike."""
    fields = sorted_fields(F.col("fields"))
    return F.sha2(F.to_json(F.struct("record", *_ASKED, fields)), 256)


def sorted_fields(fields: Column) -> Column:
    """A map as entries in the order of its keys, so that equal maps are equal."""
    return F.array_sort(F.map_entries(fields)).alias("fields")


def delivery_ids(hashes: DataFrame, salt: str) -> dict[str, str]:
    """SHA-256 of each unit's content, from `unit` and `row_hash`, whatever the order of its rows.

    The driver gets 256 digests a unit, and each of them is made of a 256th of its rows.
    """
    buckets = (
        hashes.groupBy("unit", F.substring("row_hash", 1, 2).alias("bucket"))
        .agg(F.sha2(F.array_join(F.sort_array(F.collect_list("row_hash")), ""), 256).alias("of"))
        .collect()
    )
    by_unit: dict[str, list[str]] = {}
    for unit, bucket, digest in buckets:
        by_unit.setdefault(unit, []).append(bucket + digest)
    return {
        unit: hashlib.sha256("\n".join([salt, *sorted(found)]).encode()).hexdigest()
        for unit, found in by_unit.items()
    }

"""Of examples that are copies of one another the best one, and what the others are copies of."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.figures.components import components

COPY_KINDS = ("bytes", "image")
"""Pairs by caption alone are no copies: two images may well share a caption."""


def best_of_group(examples: DataFrame, pairs: DataFrame) -> DataFrame:
    """What each example is a copy of.

    `examples`: example_id, format, source_width, source_height, caption, and `reasons`, for which
    an example is not used anyway (empty or NULL: none). `pairs` as silver.figure_pairs.

    Columns: example_id; copies_id, the least id of its copies; duplicate_of, the best of them, NULL
    for the best; near_vqa, whether one of the copies is an image of a vqa delivery. The best is
    what is used at all, then what came with the most pixels, then with the longest caption, then
    the least id. Images of vqa deliveries are in no competition: questions are about them, so they
    are never duplicates, and no captioned figure is left out in favour of an image without one.
    """
    ids = examples.select("example_id")
    copies = (
        pairs.where(F.col("kind").isin(*COPY_KINDS))
        .select("example_id", "other_id")
        .join(ids, "example_id", "left_semi")
        .join(ids.withColumnRenamed("example_id", "other_id"), "other_id", "left_semi")
        .select("example_id", "other_id")
        .localCheckpoint()
    )
    tied = components(copies).select(
        F.col("id").alias("example_id"), F.col("component").alias("copies_id")
    )
    is_vqa = F.col("format") == "vqa"
    grouped = (
        examples.join(tied, "example_id", "left")
        .withColumn("copies_id", F.coalesce("copies_id", "example_id"))
        .withColumn("is_vqa", F.coalesce(is_vqa, F.lit(False)))
    )
    pixels = F.col("source_width").cast("bigint") * F.col("source_height")
    rank = F.struct(
        F.coalesce(F.size("reasons") > 0, F.lit(False)),
        -F.coalesce(pixels, F.lit(0)),
        -F.coalesce(F.length("caption"), F.lit(0)),
        F.col("example_id").alias("best"),
    )
    among = Window.partitionBy("copies_id")
    best = F.min(F.when(~F.col("is_vqa"), rank)).over(among)["best"]
    return grouped.withColumn("best", best).select(
        "example_id",
        "copies_id",
        F.when(~F.col("is_vqa") & (F.col("best") != F.col("example_id")), F.col("best")).alias(
            "duplicate_of"
        ),
        F.bool_or("is_vqa").over(among).alias("near_vqa"),
    )

"""Figures of the examples' tables by which a leak shows, and what is expected of them.

Each is one row of counts that must be 0.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.quality import Batch
from schemas import between


def splits_of_groups(groups: DataFrame) -> Batch:
    """How many groups lie in two splits, or in two folds. `groups` is silver.figure_groups."""
    by_group = (
        groups.where(F.col("split").isNotNull())
        .groupBy("group_id")
        .agg(F.count_distinct("split").alias("splits"), F.count_distinct("fold").alias("folds"))
    )
    rows = by_group.agg(
        F.count_if(F.col("splits") > 1).alias("in_two_splits"),
        F.count_if(F.col("folds") > 1).alias("in_two_folds"),
    )
    return Batch(
        "groups of figures",
        rows,
        (between("in_two_splits", 0, 0), between("in_two_folds", 0, 0)),
        few=True,
    )


def copies_across_splits(groups: DataFrame, pairs: DataFrame) -> Batch:
    """How many pairs of copies lie in two splits. `pairs` is silver.figure_pairs."""
    split = groups.where(F.col("split").isNotNull()).select("example_id", "split")
    other = split.select(F.col("example_id").alias("other_id"), F.col("split").alias("other_split"))
    both = pairs.join(split, "example_id").join(other, "other_id")
    rows = both.agg(F.count_if(F.col("split") != F.col("other_split")).alias("in_two_splits"))
    return Batch("copies of figures", rows, (between("in_two_splits", 0, 0),), few=True)


def examples_of_questions(examples: DataFrame, groups: DataFrame) -> Batch:
    """How many training examples show an image that questions are asked about, or a copy of one,
    and how many are not in the split of their group.

    `examples` is gold.vlm_examples or a table like it.
    """
    of_group = groups.select("example_id", "near_vqa", F.col("split").alias("group_split"))
    both = examples.select("example_id", "split").join(of_group, "example_id", "left")
    rows = both.agg(
        F.count_if("near_vqa").alias("near_vqa"),
        F.count_if(~F.col("split").eqNullSafe(F.col("group_split"))).alias("in_another_split"),
    )
    return Batch(
        "training examples and groups",
        rows,
        (between("near_vqa", 0, 0), between("in_another_split", 0, 0)),
        few=True,
    )

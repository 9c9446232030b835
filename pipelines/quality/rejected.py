"""Why rows were rejected: the reasons, ranked, with examples."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def ranked_reasons(rejected: DataFrame, *, key: Sequence[str], shown: str) -> DataFrame:
    """One row a reason, the most frequent first; a row counts for each of its reasons.

    `rejected` has `reasons`, an array of names, the columns of `key`, and a column to be shown.
    Columns: reason, rows, alone (rows that have no other reason), first and last (of the rows in
    the order of the key: what they have to show).
    """
    each = rejected.select(
        F.explode("reasons").alias("reason"),
        F.size("reasons").alias("of"),
        F.struct(*key).alias("key"),
        shown,
    )
    return (
        each.groupBy("reason")
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count_if(F.col("of") == 1).alias("alone"),
            F.min_by(shown, "key").alias("first"),
            F.max_by(shown, "key").alias("last"),
        )
        .orderBy(F.desc("rows"), "reason")
    )

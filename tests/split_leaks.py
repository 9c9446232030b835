"""What a split leaks: groups or images that lie on both sides of it."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.figures.splits import split_of

TEST = "test"


def leaks(rows: DataFrame, *, split: str, together: str) -> DataFrame:
    """How much of a split's test part is also in its other parts, as one row.

    `rows` are examples or questions, with the column `split` (any names; compared without regard
    to case and spaces around; NULL is in no part) and the column `together` of what ought to stay
    together, such as group_id, an image or an article; NULL ties nothing.

    Columns: parts, the names of the parts; rows; things, distinct values of `together`;
    straddling, things in more than one part; test_things; leaked_test_things, those that are in
    another part too; leaked_test_rows, the rows of the test part that they have; test_rows.
    """
    part = F.lower(F.trim(F.col(split)))
    known = rows.select(part.alias("part"), F.col(together).alias("thing")).where(
        F.col("part").isNotNull()
    )
    by_thing = (
        known.where(F.col("thing").isNotNull())
        .groupBy("thing")
        .agg(
            F.count_distinct("part").alias("parts"),
            F.count_if(F.col("part") == TEST).alias("tests"),
        )
    )
    in_test, straddles = F.col("tests") > 0, F.col("parts") > 1
    of_things = by_thing.agg(
        F.count(F.lit(1)).alias("things"),
        F.count_if(straddles).alias("straddling"),
        F.count_if(in_test).alias("test_things"),
        F.count_if(in_test & straddles).alias("leaked_test_things"),
        F.coalesce(F.sum(F.when(straddles, F.col("tests"))), F.lit(0)).alias("leaked_test_rows"),
    )
    of_rows = known.agg(
        F.array_sort(F.collect_set("part")).alias("parts"),
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.col("part") == TEST).alias("test_rows"),
    )
    return of_rows.crossJoin(of_things)


def split_by_row(row_id: Column | str, shares: tuple[float, ...]) -> Column:
    """The split that a hash of each row gives: what most scripts do, to be measured by `leaks`."""
    return split_of(row_id, shares)

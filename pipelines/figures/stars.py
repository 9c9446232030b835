"""Rows with the same value, tied together with no more pairs than a few for each row.

A value that thousands share, such as the hash of one picture or a caption of boilerplate, would
make millions of pairs. Each of its rows is paired with the first few only.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def centres(rows: DataFrame, by: str, *, old: DataFrame | None, chances: int) -> DataFrame:
    """For each value of `by` the first `chances` ids that have it, old ones before new ones.

    Columns: `by`; `centres`, an array of ids; `is_old`, whether an old row has the value. `rows`
    and `old` have id BIGINT and `by`; rows with NULL are left out.
    """
    tagged = rows.select("id", by, F.lit(False).alias("old"))
    if old is not None:
        tagged = tagged.unionByName(old.select("id", by, F.lit(True).alias("old")))
    tagged = tagged.where(F.col(by).isNotNull())
    if chances == 1:  # one aggregation, of numbers only
        first_old, first_new = (
            F.min(F.when(chosen, F.col("id"))) for chosen in (F.col("old"), ~F.col("old"))
        )
        first = F.array(F.coalesce(first_old, first_new))
        return tagged.groupBy(by).agg(first.alias("centres"), F.bool_or("old").alias("is_old"))
    order = Window.partitionBy(by).orderBy(F.desc("old"), "id")
    ranked = tagged.withColumn("place", F.row_number().over(order))
    firsts = ranked.where(F.col("place") <= chances)
    in_order = F.array_sort(F.array_agg(F.struct("place", "id")))
    return (
        firsts.groupBy(by)
        .agg(in_order.alias("first"), F.bool_or("old").alias("is_old"))
        .select(by, F.col("first.id").alias("centres"), "is_old")
    )


def star(rows: DataFrame, centred: DataFrame, by: str) -> DataFrame:
    """Pairs id < other_id of each of `rows` with the centres of its value, each pair once."""
    paired = rows.select("id", by).join(centred.select(by, "centres"), by)
    # Of two centres that are both among `rows` the later one brings the pair.
    place = F.array_position("centres", F.col("id")).cast("int")
    before = F.when(place > 0, F.slice("centres", 1, place - 1)).otherwise(F.col("centres"))
    return paired.select("id", F.explode(before).alias("centre")).select(
        F.least("id", "centre").alias("id"), F.greatest("id", "centre").alias("other_id")
    )

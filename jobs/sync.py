"""A table is brought to hold exactly the rows that it should, by writing what differs alone."""

from __future__ import annotations

from collections.abc import Callable

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lake import Lake
from pipelines.difference import difference
from schemas import Table


def sync(
    lake: Lake, table: Table, want: DataFrame, rows_of: Callable[[DataFrame], DataFrame]
) -> tuple[int, int]:
    """Remove and add rows until the table has those of `want`. Rows removed, rows added.

    `want` has the key and those of the table's columns by which a row is told to be up to date:
    not its bytes. `rows_of` makes whole rows for a DataFrame of keys. Rows that changed are
    removed and added, in two commits: a run that is cut off between them leaves rows missing, and
    the next finds that they are.
    """
    lake.create(table)
    key = list(table.key)
    have = lake.read(table).select(*want.columns)
    differing = difference(have, want, key).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        counts = differing.agg(
            F.count_if("is_there").alias("gone"), F.count_if("is_wanted").alias("new")
        ).collect()[0]
        if counts["gone"]:
            lake.remove(table, differing.where("is_there").select(*key))
        if counts["new"]:
            lake.append(table, rows_of(differing.where("is_wanted").select(*key)))
    finally:
        differing.unpersist()
    return int(counts["gone"]), int(counts["new"])

"""What differs between the rows of a table and those that it should have."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def difference(have: DataFrame, want: DataFrame, key: Sequence[str]) -> DataFrame:
    """The keys of rows that are in one alone, or have other values.

    Both have the same columns, and `key` is unique in each. Columns: the key, is_there (in
    `have`), is_wanted (in `want`). Maps cannot be compared.
    """
    others = [name for name in want.columns if name not in key]

    def row(rows: DataFrame, name: str) -> DataFrame:
        return rows.select(*key, F.struct(F.lit(1).alias("here"), *others).alias(name))

    both = row(have, "old").join(row(want, "new"), list(key), "full")
    is_there, is_wanted = F.col("old").isNotNull(), F.col("new").isNotNull()
    return both.where(~F.col("old").eqNullSafe(F.col("new"))).select(
        *key, is_there.alias("is_there"), is_wanted.alias("is_wanted")
    )

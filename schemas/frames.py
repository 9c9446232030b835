"""A few rows of Python values as a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


def frame_of(
    spark: SparkSession, rows: Sequence[Sequence[Any]], schema: StructType | str
) -> DataFrame:
    """`rows`, each with the schema's fields in its order, in one partition.

    By way of Arrow: `createDataFrame` on a list starts a Python worker for each of its partitions,
    which takes longer than a commit. Times must have a zone.
    """
    struct = (
        schema if isinstance(schema, StructType) else cast(StructType, StructType.fromDDL(schema))
    )
    fields = to_arrow_schema(struct)
    columns = zip(*rows, strict=True) if rows else [()] * len(fields)
    arrays = [pa.array(values, f.type) for values, f in zip(columns, fields, strict=True)]
    table: Any = pa.table(arrays, schema=fields)  # not yet in the declared types of `data`
    return spark.createDataFrame(table, struct).coalesce(1)

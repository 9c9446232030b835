"""Rows of a delivered file as bronze.trips_raw wants them: text by header, numbered from 0."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    MapType,
    StructField,
    StructType,
    TimestampType,
)

from pipelines.trips.sources import BLANK, SourceFile, escaped, is_splittable

WHOLE_LINE = ""
"""Key in `fields` of a CSV row that could not be cut into its fields: the line as it stood in the
file. No column of a file is called so, see `sources.SourceFile.header`."""

# A comma (each line is given one in front) and a field: in quotes, in which a quote is written
# twice and commas count as text, or anything up to the next comma.
_FIELD = r',("[^"]*+(?:""[^"]*+)*+"(?=,|$)|[^,]*+)'
# Rows that stay together when a compressed file is dealt out: neighbours in time stay neighbours.
_ROWS_PER_BLOCK = 1 << 14


def read_rows(spark: SparkSession, file: SourceFile, parallelism: int) -> DataFrame:
    """The file's data rows: `fields` MAP<STRING, STRING> and `source_row` BIGINT from 0.

    A CSV row is a line. One with more text than the header has columns, or with a quote that it
    does not close, has its line under WHOLE_LINE as well. A field without text is NULL. A gzip
    file is decompressed by one task and parsed by `parallelism` of them.
    """
    if file.is_parquet:
        return _parquet_rows(spark, file)
    lines = _lines(spark, file)
    if not is_splittable(spark, file.path):
        block = F.floor(F.col("source_row") / _ROWS_PER_BLOCK)
        lines = lines.repartition(parallelism, block)
    return _parsed(lines, file.header)


def _lines(spark: SparkSession, file: SourceFile) -> DataFrame:
    """Lines that are not blank, numbered: 0 is the first data row, the header is left out."""
    lines = (
        spark.read.text(escaped(file.path))
        .select("value", F.col("_metadata.file_block_start").alias("block"))
        .where(F.btrim("value", F.lit(BLANK)) != "")
        .withColumn("at", F.monotonically_increasing_id())
    )
    if not is_splittable(spark, file.path):  # one task, which counts from 0
        row = F.col("at")
    else:
        counted = lines.groupBy("block").agg(F.min("at"), F.count(F.lit(1))).collect()
        shifts: dict[int, int] = {}
        before = 0
        for block, first, count in sorted(map(tuple, counted)):
            shifts[block] = before - first
            before += count
        # A line in a block that was not counted would be NULL here, which the NOT NULL of
        # source_row turns into a failed write instead of wrong numbers.
        shift = F.create_map(*(F.lit(x) for pair in shifts.items() for x in pair))
        row = F.col("at") + F.element_at(shift, F.col("block"))
    # The header is line 0. Nothing else may go: a wrong number is found where rows are counted.
    return lines.select("value", (row - 1).alias("source_row")).where(
        F.col("source_row").isNull() | (F.col("source_row") != -1)
    )


def _parsed(lines: DataFrame, header: Sequence[str]) -> DataFrame:
    line, found = F.col("value"), F.col("found")
    unquoted = F.transform(
        F.regexp_extract_all(F.concat(F.lit(","), line), F.lit(_FIELD)),
        lambda x: F.when(
            x.rlike('^".*"$'),
            F.replace(x.substr(F.lit(2), F.length(x) - 2), F.lit('""'), F.lit('"')),
        ).otherwise(x),
    )
    quotes = F.length(line) - F.length(F.replace(line, F.lit('"'), F.lit("")))
    spare = F.slice(found, len(header) + 1, F.greatest(F.size(found), F.lit(1)))
    broken = F.when(line.contains('"'), quotes % 2 == 1).otherwise(False) | F.when(
        F.size(found) > len(header), F.exists(spare, lambda x: F.btrim(x, F.lit(BLANK)) != "")
    ).otherwise(False)
    pairs: list[Column] = []
    for i, name in enumerate(header):
        text = F.get(found, F.lit(i))
        pairs += [F.lit(name), F.when(text != "", text)]
    fields = F.create_map(*pairs)
    whole = F.create_map(F.lit(WHOLE_LINE), line)
    return (
        lines.withColumn(
            "found", F.when(line.contains('"'), unquoted).otherwise(F.split(line, ",", -1))
        )
        .withColumns({"broken": broken, "fields": fields})
        .select(
            F.when(F.col("broken"), F.map_concat("fields", whole))
            .otherwise(F.col("fields"))
            .alias("fields"),
            "source_row",
        )
    )


def _parquet_rows(spark: SparkSession, file: SourceFile) -> DataFrame:
    rows = spark.read.parquet(escaped(file.path))

    def text(field: StructField) -> Column:
        column = F.col(f"`{field.name.replace('`', '``')}`")
        if isinstance(field.dataType, TimestampType):  # an instant, not a wall clock
            return F.concat(column.cast("string"), F.lit("Z"))
        if isinstance(field.dataType, (StructType, ArrayType, MapType)):
            return F.to_json(column)
        if isinstance(field.dataType, BinaryType):
            return F.base64(column)
        return column.cast("string")

    pairs = [
        x for n, f in zip(file.header, rows.schema.fields, strict=True) for x in (F.lit(n), text(f))
    ]
    index = rows.metadataColumn("_metadata").getField("row_index")
    return rows.select(F.create_map(*pairs).alias("fields"), index.alias("source_row"))

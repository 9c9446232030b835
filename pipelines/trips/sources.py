"""Delivered files: finding them, reading their headers, naming them by content, reading rows.

Everything goes through Hadoop's file systems, so a path may be local or any URL that the cluster
can read. Rows come out as bronze.trips_raw wants them: text by header, numbered from 0.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
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

from pipelines.errors import UsageError
from pipelines.trips.layouts import Layout, Recognised, Unrecognised, recognise

DATA_ENDINGS = (".csv", ".csv.gz", ".csv.bz2", ".parquet")
WHOLE_LINE = "_line"
"""Key in `fields` of a row with more fields than the header: the line as it stood in the file."""

_HEADER_BYTES = 1 << 20
# Some TLC years end each data row with two commas that the header lacks. More text than that is
# a broken row, kept whole under WHOLE_LINE.
_SPARE_FIELDS = 16
_ROWS_PER_BLOCK = 1 << 16


class FileRefused(ValueError):
    """A file that cannot be used, with the reason; the path is not repeated in it."""


@dataclass(frozen=True)
class SourceFile:
    """A delivered file whose header a layout fits."""

    path: str
    bytes: int
    is_parquet: bool
    header: tuple[str, ...]
    recognised: Recognised


def find_files(spark: SparkSession, paths: Sequence[str]) -> list[str]:
    """The files meant by paths, folders and globs, as Hadoop URLs, each once, sorted.

    In a folder, at any depth, files with a known ending count (`DATA_ENDINGS`) unless a name on
    the way starts with "." or "_". Raises UsageError for whatever means no file.
    """
    found: dict[str, None] = {}
    for path in paths:
        hadoop_path = _hadoop(spark).Path(path)
        file_system = hadoop_path.getFileSystem(_conf(spark))
        try:
            literal = file_system.exists(hadoop_path)
            matches = [file_system.getFileStatus(hadoop_path)] if literal else []
            if not literal:
                matches = list(file_system.globStatus(hadoop_path) or [])
        except Py4JJavaError as e:
            raise UsageError(f"{path}: {_java_message(e)}") from e
        if not matches:
            raise UsageError(f"{path}: no such file or folder, and no file matches it as a pattern")
        before = len(found)
        for status in matches:
            if status.isDirectory():
                found.update(dict.fromkeys(_files_below(file_system, status.getPath())))
            else:
                found[status.getPath().toString()] = None
        if len(found) == before and all(s.isDirectory() for s in matches):
            raise UsageError(f"{path}: holds no file ending in {', '.join(DATA_ENDINGS)}")
    return sorted(found)


def _files_below(file_system: Any, folder: Any) -> Iterator[str]:
    root = folder.toString().rstrip("/") + "/"
    listed = file_system.listFiles(folder, True)
    while listed.hasNext():
        path = listed.next().getPath().toString()
        below = path.removeprefix(root).split("/")
        if path.endswith(DATA_ENDINGS) and not any(part[0] in "._" for part in below if part):
            yield path


def inspect(spark: SparkSession, path: str, layouts: Sequence[Layout]) -> SourceFile:
    """Read a file's header and find its layout. Raises FileRefused with the reason."""
    hadoop_path = _hadoop(spark).Path(path)
    file_system = hadoop_path.getFileSystem(_conf(spark))
    try:
        size = file_system.getFileStatus(hadoop_path).getLen()
        start = _first_bytes(file_system.open(hadoop_path), 4)
    except Py4JJavaError as e:
        raise FileRefused(_java_message(e)) from e
    if size == 0:
        raise FileRefused("is empty (0 bytes)")
    if start == b"PAR1":
        header = _parquet_header(spark, path)
    elif start.startswith(b"PK\x03\x04"):
        raise FileRefused("is a zip archive: unpack it first, or compress the CSV with gzip")
    elif start.startswith(b"\x1f\x8b") and not path.endswith(".gz"):
        raise FileRefused("is compressed with gzip but its name does not end in .gz: rename it")
    else:
        header = _csv_header(spark, path)
    try:
        recognised = recognise(header, layouts)
    except Unrecognised as e:
        raise FileRefused(str(e)) from e
    return SourceFile(path, size, start == b"PAR1", tuple(header), recognised)


def content_id(spark: SparkSession, file: SourceFile) -> str:
    """SHA-256 of the uncompressed content, hexadecimal: the same for x.csv and x.csv.gz.

    Reads the whole file in the driver's JVM, so a truncated or corrupt archive is found before
    anything is written: FileRefused.
    """
    assert spark.sparkContext._jvm is not None
    digest = spark.sparkContext._jvm.org.apache.commons.codec.digest.DigestUtils
    stream = None
    try:
        stream = _content(spark, file.path)
        return str(digest.sha256Hex(stream))
    except Py4JJavaError as e:
        raise FileRefused(f"is truncated or corrupt: {_java_message(e)}") from e
    finally:
        if stream is not None:
            stream.close()


def read_rows(spark: SparkSession, file: SourceFile, parallelism: int) -> DataFrame:
    """The file's data rows: `fields` MAP<STRING, STRING> and `source_row` BIGINT from 0.

    A compressed file is decompressed by one task and parsed by `parallelism` of them, in blocks
    of consecutive rows, so that times stay close together in what is written from it.
    """
    if file.is_parquet:
        return _parquet_rows(spark, file)
    return _parsed(_csv_rows(spark, file), file.header, parallelism)


def _csv_rows(spark: SparkSession, file: SourceFile) -> DataFrame:
    """Lines that are not blank, numbered: 0 is the first data row, the header is left out."""
    lines = (
        spark.read.text(_escaped(file.path))
        .select("value", F.col("_metadata.file_block_start").alias("block"))
        .where(F.length(F.trim("value")) > 0)
        .withColumn("at", F.monotonically_increasing_id())
    )
    if _codec(spark, file.path):  # one split, which monotonically_increasing_id numbers from 0
        row = F.col("at")
    else:
        counted = lines.groupBy("block").agg(F.min("at"), F.count(F.lit(1))).collect()
        row = F.lit(None).cast("bigint")
        offset = 0
        for block, first, count in sorted(map(tuple, counted)):
            row = F.when(F.col("block") == block, F.col("at") + (offset - first)).otherwise(row)
            offset += count
    # The header is line 0. A line in a block that the count did not see would be NULL here, which
    # the NOT NULL of source_row turns into a failed write instead of wrong numbers.
    return lines.select("value", (row - 1).alias("source_row")).where(
        F.col("source_row").isNull() | (F.col("source_row") >= 0)
    )


def _parsed(lines: DataFrame, header: Sequence[str], parallelism: int) -> DataFrame:
    spare = [f"s{i}" for i in range(_SPARE_FIELDS)]
    ddl = ", ".join(f"{n} STRING" for n in (*(f"c{i}" for i in range(len(header))), *spare))
    block = F.floor(F.col("source_row") / _ROWS_PER_BLOCK)
    tokens = lines.repartition(parallelism, block).select(
        "source_row",
        "value",
        F.from_csv("value", ddl, {"escape": '"'}).alias("t"),
    )
    pairs = [x for i, n in enumerate(header) for x in (F.lit(n), F.col(f"t.c{i}"))]
    fields = F.create_map(*pairs)
    too_many = F.coalesce(*(F.col(f"t.{s}") for s in spare)).isNotNull()
    whole = F.map_concat(fields, F.create_map(F.lit(WHOLE_LINE), F.col("value")))
    return tokens.select(F.when(too_many, whole).otherwise(fields).alias("fields"), "source_row")


def _parquet_rows(spark: SparkSession, file: SourceFile) -> DataFrame:
    rows = spark.read.parquet(_escaped(file.path))

    def text(field: StructField) -> Column:
        column = F.col(f"`{field.name.replace('`', '``')}`")
        if isinstance(field.dataType, TimestampType):  # an instant, not a wall clock
            return F.concat(column.cast("string"), F.lit("Z"))
        if isinstance(field.dataType, (StructType, ArrayType, MapType)):
            return F.to_json(column)
        if isinstance(field.dataType, BinaryType):
            return F.base64(column)
        return column.cast("string")

    pairs = [x for f in rows.schema.fields for x in (F.lit(f.name), text(f))]
    return rows.select(
        F.create_map(*pairs).alias("fields"), F.col("_metadata.row_index").alias("source_row")
    )


def _parquet_header(spark: SparkSession, path: str) -> list[str]:
    try:
        return spark.read.parquet(_escaped(path)).columns
    except (PySparkException, Py4JJavaError) as e:
        raise FileRefused(f"is not a readable Parquet file: {str(e).splitlines()[0]}") from e


def _csv_header(spark: SparkSession, path: str) -> list[str]:
    try:
        start = _first_bytes(_content(spark, path), _HEADER_BYTES)
    except Py4JJavaError as e:
        raise FileRefused(f"is truncated or corrupt: {_java_message(e)}") from e
    text = start.decode("utf-8-sig", errors="replace")
    line = next((x for x in text.splitlines() if x.strip()), "")
    if not line:
        raise FileRefused("has no header: its first megabyte is blank")
    header = [name.strip().lstrip("\ufeff") for name in next(csv.reader([line]))]
    while header and not header[-1]:
        header.pop()
    return [name or f"(column {i})" for i, name in enumerate(header)]


def _content(spark: SparkSession, path: str) -> Any:
    """A Java stream of the uncompressed content."""
    hadoop_path = _hadoop(spark).Path(path)
    stream = hadoop_path.getFileSystem(_conf(spark)).open(hadoop_path)
    codec = _codec(spark, path)
    return codec.createInputStream(stream) if codec else stream


def _codec(spark: SparkSession, path: str) -> Any:
    factory = _jvm(spark).org.apache.hadoop.io.compress.CompressionCodecFactory(_conf(spark))
    return factory.getCodec(_hadoop(spark).Path(path))


def _first_bytes(stream: Any, count: int) -> bytes:
    try:
        return bytes(stream.readNBytes(count))
    finally:
        stream.close()


def _escaped(path: str) -> str:
    """A path for Spark's readers, which would take these characters for a pattern."""
    return "".join("\\" + c if c in "{}[]*?\\" else c for c in path)


def _jvm(spark: SparkSession) -> Any:
    return spark.sparkContext._jvm


def _hadoop(spark: SparkSession) -> Any:
    return _jvm(spark).org.apache.hadoop.fs


def _conf(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.hadoopConfiguration()  # type: ignore[union-attr]


def _java_message(error: Py4JJavaError) -> str:
    return str(error.java_exception.toString()).split(": ", 1)[-1].splitlines()[0]

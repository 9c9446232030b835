"""Delivered files: finding them, reading their headers, naming them by content.

Everything goes through Hadoop's file systems, so a path may be local or any URL that the cluster
can read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.trips.layouts import Layout, Recognised, Unrecognised, recognise

DATA_ENDINGS = (".csv", ".csv.gz", ".csv.bz2", ".parquet")
BLANK = " \t"
"""A line of nothing but these is blank, and is passed over in CSV."""

_HEADER_BYTES = 1 << 20
_LINE_END = re.compile(r"\r\n|\n|\r")  # as Hadoop's readers cut lines; splitlines() cuts at more
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class FileRefused(ValueError):
    """A file that cannot be used, with the reason; the path is not repeated in it."""


@dataclass(frozen=True)
class SourceFile:
    """A delivered file whose header a layout fits."""

    path: str
    bytes: int
    modified_ms: int
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
        try:
            files = list(_files_at(spark, path))
        except Py4JJavaError as e:
            raise UsageError(f"{path}: {java_message(e)}") from e
        if not files:
            raise UsageError(f"{path}: holds no file ending in {', '.join(DATA_ENDINGS)}")
        found.update(dict.fromkeys(files))
    return sorted(found)


def _files_at(spark: SparkSession, path: str) -> Iterator[str]:
    hadoop_path = _hadoop(spark).Path(path)
    file_system = hadoop_path.getFileSystem(_conf(spark))
    # A name with brackets may be just that.
    if file_system.exists(hadoop_path):
        matches = [file_system.getFileStatus(hadoop_path)]
    else:
        matches = list(file_system.globStatus(hadoop_path) or [])
    if not matches:
        raise UsageError(f"{path}: no such file or folder, and no file matches it as a pattern")
    for status in matches:
        if status.isDirectory():
            yield from _files_below(file_system, status.getPath())
        else:
            yield status.getPath().toString()


def _files_below(file_system: Any, folder: Any) -> Iterator[str]:
    root = folder.toString().rstrip("/") + "/"
    listed = file_system.listFiles(folder, True)
    while listed.hasNext():
        path = listed.next().getPath().toString()
        below = path.removeprefix(root).split("/")
        if path.lower().endswith(DATA_ENDINGS) and not any(part[0] in "._" for part in below):
            yield path


def inspect(spark: SparkSession, path: str, layouts: Sequence[Layout]) -> SourceFile:
    """Read a file's header and find its layout. Raises FileRefused with the reason."""
    if path.rsplit("/", 1)[-1][:1] in ("_", "."):
        raise FileRefused("begins with _ or a dot: Spark passes over such files, so rename it")
    hadoop_path = _hadoop(spark).Path(path)
    file_system = hadoop_path.getFileSystem(_conf(spark))
    try:
        status = file_system.getFileStatus(hadoop_path)
        size, modified_ms = status.getLen(), status.getModificationTime()
        start = _first_bytes(file_system.open(hadoop_path), 4)
    except Py4JJavaError as e:
        raise FileRefused(f"cannot be read: {java_message(e)}") from e
    if size == 0:
        raise FileRefused("is empty (0 bytes)")
    if start.startswith(_ZIP):
        raise FileRefused("is a zip archive: unpack it first, or compress the CSV with gzip")
    if start.startswith(_UTF16):
        raise FileRefused("is in UTF-16: convert it to UTF-8")
    if start.startswith(_GZIP) and not path.endswith(".gz"):
        raise FileRefused("is compressed with gzip but its name does not end in .gz: rename it")
    is_parquet = start == _PARQUET
    names = _parquet_header(spark, path) if is_parquet else _csv_header(spark, path)
    header = [name or f"(column {i})" for i, name in enumerate(names)]
    try:
        recognised = recognise(header, layouts)
    except Unrecognised as e:
        raise FileRefused(str(e)) from e
    return SourceFile(path, size, modified_ms, is_parquet, tuple(header), recognised)


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
        raise FileRefused(f"is truncated or corrupt: {java_message(e)}") from e
    finally:
        if stream is not None:
            stream.close()


def has_changed(spark: SparkSession, file: SourceFile) -> bool:
    """Whether the file is not what it was when `inspect` saw it, going by size and time."""
    hadoop_path = _hadoop(spark).Path(file.path)
    try:
        status = hadoop_path.getFileSystem(_conf(spark)).getFileStatus(hadoop_path)
    except Py4JJavaError:
        return True
    return (status.getLen(), status.getModificationTime()) != (file.bytes, file.modified_ms)


def is_splittable(spark: SparkSession, path: str) -> bool:
    """Whether several tasks may read a text file, each a part of it."""
    codec = _codec(spark, path)
    gateway = spark.sparkContext._gateway
    splittable = "org.apache.hadoop.io.compress.SplittableCompressionCodec"
    return codec is None or is_instance_of(gateway, codec, splittable)


def escaped(path: str) -> str:
    """A path for Spark's readers, which would take these characters for a pattern."""
    return "".join("\\" + c if c in "{}[]*?\\" else c for c in path)


def java_message(error: Py4JJavaError) -> str:
    """The message of a Java exception, in one line, without its class."""
    return str(error.java_exception.toString()).split(": ", 1)[-1].splitlines()[0]


def _parquet_header(spark: SparkSession, path: str) -> list[str]:
    try:
        return spark.read.parquet(escaped(path)).columns
    except (PySparkException, Py4JJavaError) as e:
        raise FileRefused(f"is not a readable Parquet file: {str(e).splitlines()[0]}") from e


def _csv_header(spark: SparkSession, path: str) -> list[str]:
    """Names in the first line that is not blank, without empty ones at its end."""
    try:
        start = _first_bytes(_content(spark, path), _HEADER_BYTES)
    except Py4JJavaError as e:
        raise FileRefused(f"is truncated or corrupt: {java_message(e)}") from e
    text = start.decode("utf-8-sig", errors="replace")
    line = next((x for x in _LINE_END.split(text) if x.strip(BLANK)), "")
    if not line:
        raise FileRefused("has no header: its first megabyte is blank")
    try:
        header = [name.strip() for name in next(csv.reader([line]))]
    except csv.Error as e:
        raise FileRefused(f"has no header that can be read as CSV: {e}") from e
    while header and not header[-1]:
        header.pop()
    return header


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


def _jvm(spark: SparkSession) -> Any:
    return spark.sparkContext._jvm


def _hadoop(spark: SparkSession) -> Any:
    return _jvm(spark).org.apache.hadoop.fs


def _conf(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.hadoopConfiguration()

"""Where deliveries lie: found through Hadoop's file systems, read in workers through Arrow's.

The driver asks Hadoop what is there, so a path may be local or any URL that the cluster can read.
Workers have no JVM: they open lists, images and archives as streams of `pyarrow.fs`, which knows
file:, hdfs:, s3:, gs: and abfs: and takes credentials from the environment as those clients do.
Nothing is ever copied to a disk.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyarrow import fs
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.trips.sources import escaped, java_message

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".ppm", ".pgm"),
    *(".pnm", ".dcm", ".dicom"),
)
"""Endings that name an image, in lower case; what a file really is, its content says."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_ARROW_SCHEMES = {"s3a": "s3", "s3n": "s3", "wasbs": "abfss"}


class DeliveryRefused(ValueError):
    """A delivery that must not be used, found in a worker or in the driver; one line."""


class NotAFile(DeliveryRefused):
    """A folder, a pipe or a device where a file should be."""


def said_refused(error: BaseException) -> str | None:
    """The message of a DeliveryRefused that a worker raised, out of Spark's exception round it."""
    if isinstance(error, DeliveryRefused):
        return str(error)
    found = re.search(r"(?:DeliveryRefused|NotAFile): (.+)", str(error))
    return found[1].strip() if found else None


def files_like(spark: SparkSession, folder: str, *patterns: str) -> list[str]:
    """URLs of the files below `folder` that match one of the globs, sorted.

    Names that begin with "." or "_" are passed over, as Spark does. Raises UsageError.
    """
    found: set[str] = set()
    for pattern in patterns:
        try:
            path, file_system = _hadoop(spark, f"{escaped(folder.rstrip('/'))}/{pattern}")
            for status in file_system.globStatus(path) or []:
                name = status.getPath().getName()
                if status.isFile() and name[0] not in "._":
                    found.add(status.getPath().toString())
        except Py4JJavaError as e:
            raise UsageError(f"{folder}: {java_message(e)}") from e
    return sorted(found)


def place_of(spark: SparkSession, path: str) -> tuple[str, bool]:
    """The URL of a file or folder that is there, and whether it is a folder. Raises UsageError."""
    try:
        hadoop_path, file_system = _hadoop(spark, path)
        if not file_system.exists(hadoop_path):
            raise UsageError(f"{path}: no such file or folder")
        status = file_system.getFileStatus(hadoop_path)
        return str(status.getPath().toString()), bool(status.isDirectory())
    except Py4JJavaError as e:
        raise UsageError(f"{path}: {java_message(e)}") from e


def size_of(spark: SparkSession, url: str) -> int:
    """Bytes of a file, or of everything below a folder."""
    path, file_system = _hadoop(spark, url)
    return int(file_system.getContentSummary(path).getLength())


def parent(url: str) -> str:
    """The folder that a file lies in."""
    return url.rstrip("/").rsplit("/", 1)[0]


def name_of(url: str) -> str:
    """The last part of a URL."""
    return url.rstrip("/").rsplit("/", 1)[-1]


def stem_of(url: str) -> str:
    """The last part of a URL up to its first dot, other than one that it begins with."""
    name = name_of(url)
    return name[:1] + name[1:].split(".", 1)[0]


def open_stream(url: str) -> Any:
    """A seekable binary stream of a file, for the driver or a worker.

    Raises DeliveryRefused where Arrow has no such file system, OSError where the file cannot be
    opened; a local path that is no regular file is refused, since opening a pipe waits for ever.
    """
    file_system, path = _opened_by(url)
    if isinstance(file_system, fs.LocalFileSystem):
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise NotAFile(f"{url} is no regular file")
        return open(path, "rb")  # noqa: PTH123 (the caller closes it)
    return _as_file(file_system.open_input_file(path))


def is_below(path: str, root: str) -> bool:
    """Whether a local path lies below a local folder once all links are followed."""
    real, real_root = os.path.realpath(path), os.path.realpath(root)
    return real.startswith(real_root.rstrip("/") + "/")


def local_path(url: str) -> str | None:
    """The path of a URL that is on the local file system, None for any other."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return url
    return re.sub("^file:(//(?=/))?", "", url) if scheme[1] == "file" else None


def _as_file(stream: pa.NativeFile) -> IO[bytes]:
    import io

    return io.BufferedReader(stream, 1 << 20)


def _opened_by(url: str) -> tuple[fs.FileSystem, str]:
    if (path := local_path(url)) is not None:
        return fs.LocalFileSystem(), path
    scheme, rest = url.split(":", 1)
    authority, _, below = rest.removeprefix("//").partition("/")
    scheme = _ARROW_SCHEMES.get(scheme, scheme)
    # As Arrow's file systems name files: HDFS from its root, ABFS without the account, which stands
    # behind the container.
    root = "" if scheme == "hdfs" else authority.partition("@")[0]
    return _remote(scheme, authority), f"{root}/{below}"


@lru_cache(maxsize=8)
def _remote(scheme: str, authority: str) -> fs.FileSystem:
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{quote(authority, safe='@:.-')}/")[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise DeliveryRefused(
            f"files at {scheme}://{authority} cannot be read from a worker "
            f"({str(e).splitlines()[0]}): copy them to a local folder, HDFS, S3, GCS or ABFS"
        ) from e


def _hadoop(spark: SparkSession, path: str) -> tuple[Any, Any]:
    context = spark.sparkContext
    hadoop_path: Any = context._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]
    return hadoop_path, hadoop_path.getFileSystem(context._jsc.hadoopConfiguration())


def batches_of(rows: Iterator[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows as Arrow batches of about 8 MB, so that a few large values never pile up."""
    waiting: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        waiting.append(row)
        held += 500 + sum(len(v) for v in row.values() if isinstance(v, bytes | str))
        if held > 8 << 20:
            yield pa.RecordBatch.from_pylist(waiting, schema)
            waiting, held = [], 0
    if waiting:
        yield pa.RecordBatch.from_pylist(waiting, schema)

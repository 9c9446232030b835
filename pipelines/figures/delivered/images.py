"""Images that lists name: found in folders and zips by name, read in workers where they lie.

A name in a list is only ever compared with what the folder or archive holds, never opened: no list
leads anywhere else. Shuffles carry names; bytes go from the file into the row that is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.figures.delivered.limits import (
    AMBIGUOUS,
    MISSING,
    NONE_NAMED,
    NOT_A_FILE,
    OUTSIDE,
    TOO_LARGE,
    UNREADABLE,
    Limits,
)
from pipelines.figures.delivered.places import (
    DeliveryRefused,
    NotAFile,
    batches_of,
    is_below,
    local_path,
    name_of,
    open_stream,
    place_of,
)
from pipelines.figures.delivered.zips import members, read_member
from pipelines.trips.sources import escaped
from schemas.frames import frame_of

LOCATOR = (
    "url STRING, root STRING, offset BIGINT, packed BIGINT, size BIGINT, method INT, crc BIGINT"
)
"""Where bytes lie: a file at `url` below `root`, or with an `offset` a member of the zip `url`."""

LOCATOR_COLUMNS = ("url", "root", "offset", "packed", "size", "method", "crc")
_MEMBERS = f"member STRING, {LOCATOR}, problem STRING"
_MEMBERS_ARROW = pa.schema(
    [
        *(("member", pa.string()), ("url", pa.string()), ("root", pa.string())),
        *((name, pa.int64()) for name in ("offset", "packed", "size")),
        *(("method", pa.int32()), ("crc", pa.int64()), ("problem", pa.string())),
    ]
)
_BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class ImagePlace:
    """A folder or a zip archive that images of a delivery lie in."""

    url: str
    is_zip: bool


def image_places(spark: SparkSession, paths: Sequence[str]) -> list[ImagePlace]:
    """Folders and zips. Raises UsageError for what is not there, DeliveryRefused for others."""
    found = []
    for path in paths:
        url, is_folder = place_of(spark, path)
        if not is_folder and not name_of(url).lower().endswith(".zip"):
            raise DeliveryRefused(f"{path} is neither a folder nor a .zip of images")
        found.append(ImagePlace(url, not is_folder))
    return found


def list_images(spark: SparkSession, places: Sequence[ImagePlace], limits: Limits) -> DataFrame:
    """`member` (the path below its place), the locator's columns, and `problem`."""
    parts = [images_at(spark, p.url, p.url) for p in places if not p.is_zip]
    if zips := [(p.url,) for p in places if p.is_zip]:

        def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for url in batch.column(0).to_pylist():
                    rows = ({**m, "url": url, "root": url} for m in members(url, limits))
                    yield from batches_of(rows, _MEMBERS_ARROW)

        parts.append(frame_of(spark, zips, "url STRING").mapInArrow(read, _MEMBERS))
    if not parts:
        return frame_of(spark, [], _MEMBERS)
    return reduce(DataFrame.unionByName, parts)


def images_at(spark: SparkSession, url: str, folder: str) -> DataFrame:
    """The file, or every file below the folder; as `list_images`.

    Spark lists its subfolders in parallel, and reads no content.
    """
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    root = folder.rstrip("/") + "/"
    path = F.col("path")
    return reader.load(escaped(url)).select(
        F.substring(path, F.length(F.lit(root)) + 1, F.length(path)).alias("member"),
        path.alias("url"),
        F.lit(folder).alias("root"),
        *(F.lit(None).cast("bigint").alias(c) for c in ("offset", "packed")),
        F.col("length").alias("size"),
        F.lit(None).cast("int").alias("method"),
        F.lit(None).cast("bigint").alias("crc"),
        F.lit(None).cast("string").alias("problem"),
    )


def locate(rows: DataFrame, images: DataFrame, limits: Limits) -> DataFrame:
    """`rows`, which have `name` and `problem`, with `member`, the locator, and why there is none.

    A name fits an image whose path below its place is or ends in it, with or without the ending;
    of several the one nearest to the top, and none where two are equally near.
    """
    parts = F.split("member", "/")
    suffix = F.transform(
        F.sequence(F.lit(1), F.size(parts)),
        lambda i: F.struct(
            F.array_join(F.slice(parts, i, F.size(parts)), "/").alias("key"), (i * 2).alias("rank")
        ),
    )
    stem = F.transform(
        suffix,
        lambda s: F.struct(
            F.regexp_replace(s["key"], r"(?<=[^/])\.[^./]+$", "").alias("key"),
            (s["rank"] + 1).alias("rank"),
        ),
    )
    place = F.struct("member", *LOCATOR_COLUMNS, "problem")
    nearest = (
        images.select(F.explode(F.concat(suffix, stem)).alias("at"), place.alias("place"))
        .groupBy("at.key", "at.rank")
        .agg(F.min("place").alias("place"), F.count(F.lit(1)).alias("places"))
        .groupBy("key")
        .agg(F.min_by(F.struct("place", "places"), "rank").alias("found"))
    )
    joined = rows.withColumn("key", _key(F.col("name"))).join(nearest, on="key", how="left")
    found = F.col("found.place")
    problem = (
        F.when(F.col("problem").isNotNull(), F.col("problem"))
        .when(F.col("name").isNull() | (F.btrim("name") == ""), NONE_NAMED)
        .when(_leads_out(F.col("name")), OUTSIDE)
        .when(F.col("found").isNull(), MISSING)
        .when(F.col("found.places") > 1, AMBIGUOUS)
        .when(found["size"] > limits.image_bytes, TOO_LARGE)
        .otherwise(found["problem"])
    )
    kept = [c for c in rows.columns if c != "problem"]
    located = joined.select(*kept, problem.alias("problem"), found.alias("place"))
    usable = F.col("problem").isNull()
    return located.select(
        *kept,
        "problem",
        *(F.when(usable, F.col(f"place.{c}")).alias(c) for c in ("member", *LOCATOR_COLUMNS)),
    )


def unnamed(images: DataFrame, limits: Limits) -> DataFrame:
    """Images that no list names, as `locate` gives rows: `name` is the path below their place."""
    problem = F.coalesce("problem", F.when(F.col("size") > limits.image_bytes, TOO_LARGE))
    usable = problem.isNull()
    return images.select(
        F.col("member").alias("name"),
        problem.alias("problem"),
        *(F.when(usable, F.col(c)).alias(c) for c in ("member", *LOCATOR_COLUMNS)),
    )


def _key(name: Column) -> Column:
    """A name as `list_images` spells it: forward slashes, none doubled, no `./`."""
    slashes = F.regexp_replace(F.replace(F.btrim(name), F.lit("\\"), F.lit("/")), "/+", "/")
    key = F.regexp_replace(slashes, r"(^|/)(\./)+", "$1")
    return F.when(~_leads_out(name), key)


def _leads_out(name: Column) -> Column:
    """Absolute, a drive, a URL, or with a part `..`."""
    path = F.replace(F.btrim(name), F.lit("\\"), F.lit("/"))
    return path.rlike(r"^/|^[A-Za-z][A-Za-z0-9+.-]*:|(^|/)\.\.(/|$)")


def with_hashes(located: DataFrame, limits: Limits) -> DataFrame:
    """Reads every image: adds `sha256` and `image_bytes`, or sets `problem` where it cannot be."""
    schema = f"{_ddl(located)}, sha256 STRING, image_bytes BIGINT"

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader = Reader(limits)
        for batch in batches:
            problems = batch.column("problem").to_pylist()
            hashes: list[str | None] = []
            sizes: list[int | None] = []
            for i, locator in enumerate(batch.select(list(LOCATOR_COLUMNS)).to_pylist()):
                content = reader.read(locator) if locator["url"] else None
                if isinstance(content, str):
                    problems[i], content = content, None
                hashes.append(None if content is None else hashlib.sha256(content).hexdigest())
                sizes.append(None if content is None else len(content))
            at = batch.schema.get_field_index("problem")
            batch = batch.set_column(at, "problem", pa.array(problems, pa.string()))
            batch = batch.append_column("sha256", pa.array(hashes, pa.string()))
            yield batch.append_column("image_bytes", pa.array(sizes, pa.int64()))

    return located.mapInArrow(read, schema)


def with_bytes(rows: DataFrame, limits: Limits, *, nameless: bool = False) -> DataFrame:
    """Reads again what `with_hashes` read and adds `image`; in batches of about 16 MB.

    Raises DeliveryRefused (in the worker) where an image is no longer what it was; the error says
    which unless `nameless`.
    """
    schema = f"{_ddl(rows)}, image BINARY"

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader = Reader(limits)
        for batch in batches:
            start, held, images = 0, 0, []
            for locator in batch.select([*LOCATOR_COLUMNS, "sha256"]).to_pylist():
                content = reader.same(locator, nameless) if locator["sha256"] else None
                images.append(content)
                held += len(content or b"")
                if held > _BATCH_BYTES:
                    yield _sliced(batch, start, images)
                    start, held, images = start + len(images), 0, []
            if images:
                yield _sliced(batch, start, images)

    ordered = rows.sortWithinPartitions("url", "offset")  # an archive is read from front to back
    return ordered.mapInArrow(read, schema)


def _sliced(batch: pa.RecordBatch, start: int, images: list[bytes | None]) -> pa.RecordBatch:
    part = batch.slice(start, len(images))
    return part.append_column("image", pa.array(images, pa.binary()))


def _ddl(rows: DataFrame) -> str:
    return ", ".join(f"`{f.name}` {f.dataType.simpleString()}" for f in rows.schema.fields)


class Reader:
    """Reads images by their locators in a worker, with the last archive left open."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._archive: tuple[str, Any] | None = None

    def read(self, locator: dict[str, Any]) -> bytes | str:
        """The image's bytes, or the reason why it is left out.

        Without a byte it is not there: Spark does not list such a file either.
        """
        if locator["offset"] is None:
            content = self._file(locator["url"], locator["root"])
        else:
            parts = {k: locator[k] for k in ("offset", "packed", "size", "method", "crc")}
            content = read_member(self._opened(locator["url"]), **parts)
        return content or MISSING

    def same(self, locator: dict[str, Any], nameless: bool) -> bytes:
        """The bytes that were there before. Raises DeliveryRefused where they no longer are."""
        content = self.read(locator)
        if isinstance(content, str) or hashlib.sha256(content).hexdigest() != locator["sha256"]:
            raise DeliveryRefused(
                f"{'a file' if nameless else locator['url']} changed while it was read: "
                "run again when the delivery is complete"
            )
        return content

    def _file(self, url: str, root: str) -> bytes | str:
        path = local_path(url)
        if path is not None and not is_below(path, str(local_path(root))):
            return OUTSIDE
        try:
            with open_stream(url) as stream:
                content = bytes(stream.read(self.limits.image_bytes + 1))
        except NotAFile:
            return NOT_A_FILE
        except (PermissionError, FileNotFoundError):
            return UNREADABLE
        return TOO_LARGE if len(content) > self.limits.image_bytes else content

    def _opened(self, url: str) -> Any:
        if self._archive is None or self._archive[0] != url:
            if self._archive is not None:
                self._archive[1].close()
            self._archive = (url, open_stream(url))
        return self._archive[1]

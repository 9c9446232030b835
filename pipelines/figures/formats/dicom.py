"""`dicom`: DICOM files of any name, in folders or zips, with a list of reports or without.

What names a patient stays in the bytes: a record is called by a keyed hash of its content, and
only what `udfs.dicom.headers` lets through is said of it. Reports are kept as captions, as
delivered; a report whose file is not there waits for it, called by a keyed hash of itself and the
path that it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.figures.delivered.images import (
    LOCATOR,
    LOCATOR_COLUMNS,
    Reader,
    images_at,
    locate,
    unnamed,
    with_bytes,
)
from pipelines.figures.delivered.limits import Limits
from pipelines.figures.delivered.lists import read_lists, shape_of
from pipelines.figures.delivered.places import parent, place_of, size_of
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.layout import Layout, mapped
from pipelines.figures.formats.listed import check_columns, images_of

_TEXTS = (
    *("record", "position", "waited_as", "problem", "sha256", "caption"),
    *("article_id", "patient_id", "modality"),
)
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("image_bytes", pa.int64()),
        ("fields", pa.map_(pa.string(), pa.string())),
        *((name, pa.string()) for name in ("url", "root")),
        *((name, pa.int64()) for name in ("offset", "packed", "size")),
        *(("method", pa.int32()), ("crc", pa.int64())),
    ]
)
_DDL = (
    f"{', '.join(f'{name} STRING' for name in _TEXTS)}, image_bytes BIGINT, "
    f"fields MAP<STRING, STRING>, {LOCATOR}"
)
_ABSENT = ("member", "licence", "published_split")


def read(spark: SparkSession, request: Request) -> Delivered:
    """Raises UsageError where a list of reports is given without its columns."""
    if request.patient_key is None:
        raise ValueError("DICOM is read under a key")
    images = _images(spark, request)
    located = unnamed(images, request.limits).withColumn("caption", F.lit(None).cast("string"))
    if request.reports:
        reports = _reports(spark, request)
        placed = locate(reports, images, request.limits)
        used = placed.select("url", "member")
        located = placed.unionByName(located.join(used, on=["url", "member"], how="left_anti"))
    figures = _with_headers(located, request.patient_key, request.limits).select(
        "*",
        F.lit(request.source).alias("unit"),
        *(F.lit(None).cast("string").alias(c) for c in _ABSENT),
    )
    return Delivered(
        rows=figures,
        with_bytes=lambda todo, _: with_bytes(todo, request.limits, nameless=True),
        units={request.source: size_of(spark, request.reports) if request.reports else 0},
        images_apart=True,
        captions_apart=True,
    )


def _images(spark: SparkSession, request: Request) -> DataFrame:
    """Every file, whatever its name, other than the list of reports and archives."""
    if not request.is_folder and not request.source.lower().endswith(".zip"):
        return images_at(spark, request.source, parent(request.source))
    found = images_of(spark, request)
    in_archive = F.col("offset").isNotNull()
    return found.where(in_archive | ~F.lower("member").rlike(r"\.(zip|csv|tsv|jsonl)(\.gz)?$"))


def _reports(spark: SparkSession, request: Request) -> DataFrame:
    """`name`, `caption`, `problem` of each report."""
    if lacking := {"image", "caption"} - set(request.columns):
        raise UsageError(
            "--reports needs the names of its columns with the file and the report: "
            f"--image-column and --caption-column; lacks --{min(lacking)}-column"
        )
    url, is_folder = place_of(spark, str(request.reports))
    if is_folder:
        raise UsageError(f"--reports {request.reports}: is a folder; name the list in it")
    shape = shape_of(url, request.encoding)
    check_columns(url, shape, request.columns)
    layout = Layout(
        "dicom", (request.columns["image"],), (), {"caption": (request.columns["caption"],)}
    )
    found = mapped(read_lists(spark, [(url, shape)]), layout)
    # A line that is no record may name anybody: of it stays that it was there.
    return found.select(F.coalesce("name", "record").alias("name"), "caption", "problem")


def _with_headers(located: DataFrame, key: bytes, limits: Limits) -> DataFrame:
    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader = Reader(limits)
        for batch in batches:
            rows = [_row(row, reader, key) for row in batch.to_pylist()]
            yield pa.RecordBatch.from_pylist(rows, _SCHEMA)

    return located.mapInArrow(read, _DDL)


def _row(row: Mapping[str, Any], reader: Reader, key: bytes) -> dict[str, Any]:
    # Here, because only DICOM needs them: they take a second to load.
    from udfs.dicom.headers import header_of
    from udfs.dicom.keys import keyed_hash, record_of_content, record_of_path
    from udfs.images.picture import Rejected

    locator = {name: row[name] for name in LOCATOR_COLUMNS}
    content = reader.read(locator) if locator["url"] else None
    said: dict[str, Any] = {"problem": row["problem"]}
    if isinstance(content, str):
        said["problem"], content = content, None
    if content is not None:
        said |= {"sha256": hashlib.sha256(content).hexdigest(), "image_bytes": len(content)}
        try:
            header = header_of(content, key)
        except Rejected as e:
            said["problem"] = str(e)
        else:
            ids = {
                "study_id": header.study_id,
                "series_id": header.series_id,
                "instance_id": header.instance_id,
            }
            said |= {
                "patient_id": header.patient_id,
                # What is of one study stays together where it names no patient.
                "article_id": header.study_id,
                "modality": header.modality,
                "fields": [*header.fields.items(), *((k, v) for k, v in ids.items() if v)],
            }
    caption = row["caption"]
    names: dict[str, str | None] = {"record": record_of_path(key, row["name"], caption or "")}
    if content is not None:
        names["waited_as"] = names["record"] if caption else None
        names["record"] = record_of_content(key, said["sha256"])
    # A file that is there twice is told apart by its paths, whichever archive is read first.
    names["position"] = "/".join(keyed_hash(key, "path", row[c] or "") for c in ("member", "url"))
    return {**locator, **said, **names, "caption": caption}

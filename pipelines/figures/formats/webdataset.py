"""`webdataset`: shards of tar archives, in which members of one key are one figure.

An image (`.jpg`, `.png`, ...), its caption (`.txt`, `.caption`, or a name of the `.json`), and
whatever else the `.json` says. A record is called by its shard and key, because keys may begin anew
in each shard. Each shard is a delivery; one task reads it, as a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from hashlib import sha256
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.figures.delivered.limits import MISSING, Limits
from pipelines.figures.delivered.places import batches_of, name_of, size_of
from pipelines.figures.delivered.tars import BROKEN_SHARD, Sample, samples
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.layout import COLUMNS, Layout, first_of, split_in, without
from pipelines.figures.formats.listed import lists_of
from schemas.frames import frame_of

LAYOUT = Layout(
    name="webdataset",
    image=(),
    columns={
        "caption": ("caption", "txt", "text", "cap"),
        "article_id": ("article_id", "pmcid", "pmc_id", "PMC_ID"),
        "patient_id": ("patient_id", "subject_id"),
        "licence": ("license", "licence"),
        "published_split": ("split",),
        "modality": ("modality",),
    },
)

_PATTERNS = tuple(f"{below}*.{e}" for below in ("", "*/") for e in ("tar", "tar.gz", "tgz"))
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("unit", "record", "problem", "member", "sha256")),
        *(("position", pa.int64()), ("image_bytes", pa.int64()), ("image", pa.binary())),
        ("values", pa.map_(pa.string(), pa.string())),
    ]
)
_DDL = (
    "unit STRING, record STRING, problem STRING, member STRING, sha256 STRING, position BIGINT, "
    "image_bytes BIGINT, image BINARY, values MAP<STRING, STRING>"
)


def read(spark: SparkSession, request: Request) -> Delivered:
    """Raises UsageError where there is no shard."""
    shards = lists_of(spark, request, *_PATTERNS)
    split = split_in(F.element_at(F.split("unit", "/"), -1))
    rows = _read(spark, shards, request.limits, with_image=False)
    columns = {c: first_of(names) for c, names in LAYOUT.columns.items()}
    columns["published_split"] = F.coalesce(columns["published_split"], split)
    figures = rows.select(
        *("unit", "position", "record", "problem", "member", "sha256", "image_bytes"),
        *(columns[c].alias(c) for c in COLUMNS),
        without(list(LAYOUT.columns.values())).alias("fields"),
    )

    def with_bytes(todo: DataFrame, units: Sequence[str]) -> DataFrame:
        found = _read(spark, units, request.limits, with_image=True)
        same = ["unit", "position", "sha256"]
        images = found.select(*same, "image")
        wanted, empty = todo.where("sha256 IS NOT NULL"), todo.where("sha256 IS NULL")
        # The rows, which are text, go to every task, so that the images do not move.
        got = images.join(F.broadcast(wanted), on=same, how="inner")
        return got.unionByName(empty.withColumn("image", F.lit(None).cast("binary")))

    return Delivered(figures, with_bytes, {s: size_of(spark, s) for s in shards})


def _read(
    spark: SparkSession, shards: Sequence[str], limits: Limits, *, with_image: bool
) -> DataFrame:
    urls = [frame_of(spark, [(s,)], "unit STRING") for s in shards]

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for url in batch.column(0).to_pylist():
                rows = (_row(url, s, with_image) for s in samples(url, limits))
                yield from batches_of(rows, _SCHEMA)

    return reduce(DataFrame.unionAll, urls).mapInArrow(read, _DDL)


def _row(url: str, sample: Sample, with_image: bool) -> dict[str, Any]:
    content, shard = sample.image, name_of(url).split(".")[0]
    broken = sample.problem == BROKEN_SHARD
    return {
        "unit": url,
        "record": f"{shard}:broken" if broken else f"{shard}/{sample.key}",
        "problem": sample.problem or (None if content is not None else MISSING),
        "member": sample.member if content is not None else None,
        "sha256": None if content is None else sha256(content).hexdigest(),
        "position": sample.position,
        "image_bytes": None if content is None else len(content),
        "image": content if with_image else None,
        "values": list(sample.texts.items()),
    }

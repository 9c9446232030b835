"""Pairs that hashes propose are held against the images themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from udfs.likeness import BYTES, differences, thumbnail

DIFFERENCE = 0.25
"""See docs/figures-duplicates.md for what it keeps and what it lets through."""


def verified(pairs: DataFrame, images: DataFrame, *, difference: float = DIFFERENCE) -> DataFrame:
    """The pairs whose images differ by no more than `difference`.

    `pairs` has id, other_id and more; `images` has id BIGINT and image BINARY, JPEG or PNG. Adds
    `difference` FLOAT, of the thumbnails, see `udfs.likeness.differences`. Pairs of which an
    image is not there are left out. Only the ids are shuffled, and thumbnails of 1 kB; images are
    decoded where they lie, those that no pair names not at all.

    A pair stands for itself: of examples with one hash, each is paired with a few others only (see
    `pipelines.figures.hamming`), and where all of its pairs fail it is on its own, even if it is a
    copy of yet another one.
    """
    pairs = pairs.localCheckpoint()
    named = pairs.select(F.explode(F.array("id", "other_id")).alias("id")).distinct()
    thumbnails = (
        images.select("id", "image")
        .where(F.col("image").isNotNull())
        .join(F.broadcast(named), "id", "left_semi")
        .mapInArrow(_thumbnails, "id BIGINT, thumbnail BINARY")
        .localCheckpoint()
    )
    one = thumbnails.withColumnRenamed("thumbnail", "one")
    other = thumbnails.select(F.col("id").alias("other_id"), F.col("thumbnail").alias("other"))
    both = pairs.join(one, "id").join(other, "other_id").select(*pairs.columns, "one", "other")
    fields = ", ".join(f"{f.name} {f.dataType.simpleString()}" for f in pairs.schema.fields)
    compared = both.mapInArrow(_compared, f"{fields}, difference FLOAT")
    return compared.where(F.col("difference") <= F.lit(difference))


def _thumbnails(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        small = [thumbnail(image.as_py()) for image in batch["image"]]
        yield pa.RecordBatch.from_arrays(
            [batch["id"], pa.array(small, pa.binary())], ["id", "thumbnail"]
        )


def _compared(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        apart = differences(_values(batch["one"]), _values(batch["other"]))
        kept = batch.drop_columns(["one", "other"])
        yield kept.append_column("difference", pa.array(apart, pa.float32()))


def _values(thumbnails: pa.Array) -> np.ndarray:
    """(n, 1024) uint8 of an Arrow array of as many bytes each."""
    return np.frombuffer(b"".join(thumbnails.to_pylist()), np.uint8).reshape(-1, BYTES)

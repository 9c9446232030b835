"""From new and old examples to rows of silver.figure_pairs."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.figures.caption_pairs import SIMILARITY, caption_pairs
from pipelines.figures.hamming import pairs_within
from pipelines.figures.stars import centres, star
from pipelines.figures.verification import DIFFERENCE, verified
from schemas import FIGURE_PAIRS

DISTANCE = 8
"""Bits up to which the images of two hashes are compared, see docs/figures-duplicates.md."""

_CHANCES = 3


def pairs_of(
    new: DataFrame,
    images: DataFrame,
    old: DataFrame | None = None,
    *,
    distance: int = DISTANCE,
    difference: float = DIFFERENCE,
    similarity: float = SIMILARITY,
) -> DataFrame:
    """Rows of silver.figure_pairs that have one of `new`; none of two of `old`.

    `new` and `old` have example_id, kind, part, sha256, phash and caption, no row in common, and
    only what is to be compared: blank images, for one, are all alike. `images` is
    silver.figure_images, of which only the images of candidates are decoded.

    Pairs by "bytes" are the same part of figures whose delivered bytes are the same; by "image",
    perceptual hashes within `distance` bits and thumbnails within `difference`; by "caption", texts
    of at least `similarity`. What many have in common is a star, see the three modules.
    """
    by_bytes = _by_bytes(new, old).withColumns(
        {"kind": F.lit("bytes"), "distance": F.lit(0), "difference": _none(), "similarity": _none()}
    )
    near = pairs_within(
        _as(new, "hash", "phash"),
        distance=distance,
        old=None if old is None else _as(old, "hash", "phash"),
        chances=_CHANCES,
    )
    by_image = verified(
        near, images.select(F.col("example_id").alias("id"), "image"), difference=difference
    ).withColumns({"kind": F.lit("image"), "similarity": _none()})
    by_caption = caption_pairs(
        _as(new, "caption", "caption"),
        similarity=similarity,
        old=None if old is None else _as(old, "caption", "caption"),
    ).withColumns(
        {"kind": F.lit("caption"), "distance": F.lit(None).cast("int"), "difference": _none()}
    )
    rows = by_bytes.unionByName(by_image).unionByName(by_caption)
    return FIGURE_PAIRS.conform(rows.withColumnRenamed("id", "example_id"))


def _by_bytes(new: DataFrame, old: DataFrame | None) -> DataFrame:
    content = F.when(F.col("sha256").isNotNull(), F.concat_ws(":", "sha256", "kind", "part"))
    rows = _as(new, "content", content)
    known = None if old is None else _as(old, "content", content)
    return star(rows, centres(rows, "content", old=known, chances=1), "content")


def _as(rows: DataFrame, name: str, value: Column | str) -> DataFrame:
    column = F.col(value) if isinstance(value, str) else value
    return rows.select(F.col("example_id").alias("id"), column.alias(name))


def _none() -> Column:
    return F.lit(None).cast("float")

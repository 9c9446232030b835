"""Thumbnails for captions.html, a few of each modality, reason and group of copies.

Of rejected examples and of copies, nothing of DICOM is drawn or quoted, whatever the reason: what
was kept back for the names in its pixels must not appear here. A bronze image is opened only where
no normalised one is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType

from pipelines.figures.page.story import Copies, Copy, Picture, Sheet
from udfs.previews import preview

SIDE_PX = 128
A_MODALITY, A_REASON, A_GROUP, GROUPS_A_KIND = 24, 12, 4, 5

_CAPTION_CHARACTERS = 400
_MOST_BYTES = 32 << 20  # of a bronze image that is opened
_UNDRAWN = ("crashes_decoder", "decoder_hangs")
_DICOM = "DICOM"


@F.pandas_udf(BinaryType())  # type: ignore[call-overload]
def _thumbnails(images: Iterator[pd.Series]) -> Iterator[pd.Series]:
    for batch in images:
        made = [preview(None if x is None else bytes(x), SIDE_PX) for x in batch]
        yield pd.Series(made, dtype=object)


def _by_chance(column: str) -> Column:
    """The order of a draw that is the same each time."""
    return F.xxhash64(column, F.lit("page"))


def _first(rows: DataFrame, by: str, count: int, *order: Column) -> DataFrame:
    """At most `count` rows for each value of `by`, with their `rank` from 1."""
    window = Window.partitionBy(by).orderBy(*order)
    return rows.withColumn("rank", F.row_number().over(window)).where(F.col("rank") <= count)


def _short(column: str) -> Column:
    return F.substring(F.coalesce(F.col(column), F.lit("")), 1, _CAPTION_CHARACTERS)


def modality_sheets(accepted: DataFrame) -> tuple[Sheet, ...]:
    """Accepted images by modality, the most frequent first; "" is the name where none was said."""
    named = accepted.withColumn("name", F.coalesce("modality", F.lit("")))
    counts = {r["name"]: r["count"] for r in named.groupBy("name").count().collect()}
    # Ids first, so that no image takes part in the draw.
    drawn = _first(named.select("example_id", "name"), "name", A_MODALITY, _by_chance("example_id"))
    rows = (
        accepted.join(F.broadcast(drawn), on="example_id")
        .select("name", "rank", _thumbnails("image").alias("jpeg"), _short("caption").alias("text"))
        .collect()
    )
    return _sheets(counts, rows)


def _sheets(counts: dict[str, int], rows: list[Row]) -> tuple[Sheet, ...]:
    pictures: dict[str, list[Picture]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["rank"]):
        pictures[row["name"]].append(_picture(row, why=row["name"]))
    order = sorted(counts, key=lambda name: (-counts[name], name))
    return tuple(Sheet(name, counts[name], tuple(pictures[name])) for name in order)


def _picture(row: Row, *, why: str) -> Picture:
    is_dicom = bool(row.asDict().get("dicom"))
    jpeg = None if row["jpeg"] is None or is_dicom else bytes(row["jpeg"])
    return Picture(jpeg, row["text"], _DICOM if is_dicom else why)


def _unless_dicom(column: str) -> Column:
    """A caption in a length that fits; nothing where it may be a report on a patient."""
    return F.when(~F.col("dicom"), _short(column)).otherwise(F.lit(""))


def _is_dicom() -> Column:
    """Of rows with the figure's format and bytes, and the kind of its part."""
    marked = F.substring("bronze", 129, 4) == F.lit(b"DICM")
    return F.coalesce(
        (F.col("format") == "dicom") | (F.col("kind") == "frame") | marked, F.lit(False)
    )


def rejected_sheets(
    rejected: DataFrame, images: DataFrame, figures: DataFrame
) -> tuple[Sheet, ...]:
    """Rejected examples under each of their reasons, the most frequent first."""
    reasons = rejected.select("example_id", "figure_id", F.explode("reasons").alias("name"))
    counts = {r["name"]: r["count"] for r in reasons.groupBy("name").count().collect()}
    drawn = _first(reasons, "name", A_REASON, _by_chance("example_id"))
    parts = images.select("example_id", "kind", "image", F.col("reasons").alias("of_image"))
    whole = figures.select(
        "figure_id", "format", F.col("image").alias("bronze"), F.col("caption").alias("delivered")
    )
    # All of them are there. An outer join would move the bytes of all images: Spark broadcasts none
    # of its sides that matter.
    joined = parts.join(F.broadcast(drawn), on="example_id")
    joined = whole.join(F.broadcast(joined), on="figure_id").withColumn("dicom", _is_dicom())
    hangs = F.arrays_overlap("of_image", F.array(*map(F.lit, _UNDRAWN)))
    openable = ~F.coalesce(hangs, F.lit(False)) & (F.length("bronze") <= _MOST_BYTES)
    shown = F.when(~F.col("dicom"), F.coalesce("image", F.when(openable, F.col("bronze"))))
    rows = joined.select(
        *("name", "rank", "dicom"),
        _thumbnails(shown).alias("jpeg"),
        _unless_dicom("delivered").alias("text"),
    ).collect()
    return _sheets(counts, rows)


def copies_side_by_side(
    groups: DataFrame, pairs: DataFrame, images: DataFrame, captions: DataFrame, figures: DataFrame
) -> tuple[Copies, ...]:
    """Some groups of copies, drawn from those that bytes, images and captions tied, in turn."""
    tied = pairs.select("example_id", "kind").join(
        groups.select("example_id", "copies_id"), on="example_id"
    )
    drawn = _first(
        tied.select("kind", "copies_id").distinct(), "kind", GROUPS_A_KIND, _by_chance("copies_id")
    )
    chosen = drawn.groupBy("copies_id").agg(F.min("rank").alias("turn"), F.min("kind").alias("by"))
    members = groups.join(F.broadcast(chosen), on="copies_id").select(
        "copies_id",
        "turn",
        "by",
        "example_id",
        "figure_id",
        F.col("duplicate_of").isNull().alias("kept"),
        F.count("*").over(Window.partitionBy("copies_id")).alias("size"),
    )
    few = _first(
        members, "copies_id", A_GROUP, F.col("kept").desc(), _by_chance("example_id")
    ).localCheckpoint()  # a few dozen rows, which four joins need
    parts = images.select("example_id", "kind", "image")
    words = captions.select("figure_id", "caption")
    # All bytes stay where they are but the 132 that tell what DICOM is.
    whole = figures.select("figure_id", "format", F.substring("image", 1, 132).alias("bronze"))
    shown = parts.join(F.broadcast(few), on="example_id")
    shown = words.join(F.broadcast(shown), on="figure_id")
    shown = whole.join(F.broadcast(shown), on="figure_id")
    shown = shown.withColumn("dicom", _is_dicom())
    jpeg = _thumbnails(F.when(~F.col("dicom"), F.col("image")))
    rows = shown.select(
        *("copies_id", "turn", "by", "example_id", "kept", "size", "rank", "dicom"),
        jpeg.alias("jpeg"),
        _unless_dicom("caption").alias("text"),
    ).collect()
    return _side_by_side(rows, _ties(few, pairs))


def _ties(few: DataFrame, pairs: DataFrame) -> dict[tuple[int, int], list[tuple[str, str]]]:
    """How each two of the members were found to be copies, in words."""
    ids = F.broadcast(few.select("example_id"))
    found = pairs.join(ids, on="example_id", how="left_semi").join(
        ids.withColumnRenamed("example_id", "other_id"), on="other_id", how="left_semi"
    )
    ties: dict[tuple[int, int], list[tuple[str, str]]] = defaultdict(list)
    for row in found.orderBy("kind").collect():
        how = ""
        if row["kind"] == "image" and row["distance"] is not None:
            how = f"{row['distance']} bit{'' if row['distance'] == 1 else 's'} apart"
        elif row["kind"] == "caption" and row["similarity"] is not None:
            how = f"{100 * row['similarity']:.0f}\u00a0% alike"
        for pair in ((row["example_id"], row["other_id"]), (row["other_id"], row["example_id"])):
            ties[pair].append((row["kind"], how))
    return ties


def _side_by_side(
    rows: list[Row], ties: dict[tuple[int, int], list[tuple[str, str]]]
) -> tuple[Copies, ...]:
    by_group: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r["turn"], r["by"], r["copies_id"], r["rank"])):
        by_group[row["copies_id"]].append(row)
    groups = []
    for members in by_group.values():
        kept = next((m for m in members if m["kept"]), None)
        copies = tuple(
            Copy(
                _picture(m, why="no image"),
                tuple(ties.get((kept["example_id"], m["example_id"]), ())) if kept else (),
            )
            for m in members
            if m is not kept
        )
        others = members[0]["size"] - (kept is not None)
        best = _picture(kept, why="no image") if kept else None
        groups.append(Copies(best, others, copies))
    return tuple(groups)

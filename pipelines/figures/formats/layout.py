"""What a format declares: which names of a record are which of our columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

COLUMNS = ("caption", "article_id", "patient_id", "licence", "published_split", "modality")

_SPLITS = "train|training|validation|validate|valid|val|dev|test"
_SPLIT_IN_NAME = rf"(?i)(?:^|[/_.-])({_SPLITS})(?=[/_.-]|$)"


@dataclass(frozen=True)
class Layout:
    """A family of lists: our column to the names that it may have, the first that is there counts.

    `record` and `image` are the names of the record's own id and of its image. `article_pattern`
    finds an article in the image's name where no column has one. Names are as delivered.
    """

    name: str
    image: tuple[str, ...]
    record: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    article_pattern: str | None = None


def first_of(names: tuple[str, ...], values: str = "values") -> Column:
    """The text under the first of the names that a row has one under, NULL where there is none."""
    texts = [F.element_at(F.col(values), F.lit(n)) for n in names]
    return F.coalesce(*texts) if texts else F.lit(None).cast("string")


def _filled(names: tuple[str, ...]) -> Column:
    text = first_of(names)
    return F.when(F.btrim(text) != "", text)


def name_of_first(names: tuple[str, ...], values: str = "values") -> Column:
    """Under which of the names that text is."""
    found = [F.when(F.element_at(F.col(values), F.lit(n)).isNotNull(), F.lit(n)) for n in names]
    return F.coalesce(*found) if found else F.lit(None).cast("string")


def without(used: list[tuple[str, ...]], values: str = "values") -> Column:
    """The values under all other names: of several names of a column, the first one is used."""
    taken = F.array_compact(F.array(F.lit(""), *(name_of_first(n, values) for n in used)))
    return F.map_filter(F.col(values), lambda name, _: ~F.array_contains(taken, name))


def split_in(text: Column) -> Column:
    """The last of train, validation, test and their like that a path names, NULL for none."""
    found = F.regexp_extract_all(text, F.lit(_SPLIT_IN_NAME), F.lit(1))
    return F.lower(F.get(found, F.size(found) - 1))


def mapped(rows: DataFrame, layout: Layout, *, split: Column | None = None) -> DataFrame:
    """Rows of `lists.read_lists` as figures whose images are still to be located (`name`).

    A line that is no record becomes the record `line:N` with its text in `fields`.
    """
    image = first_of(layout.image)
    columns = {c: first_of(layout.columns.get(c, ())) for c in COLUMNS}
    if layout.article_pattern:
        found = F.regexp_extract(image, layout.article_pattern, 0)
        columns["article_id"] = F.coalesce(columns["article_id"], F.when(found != "", found))
    if split is not None:
        columns["published_split"] = F.coalesce(columns["published_split"], split)
    line = F.concat(F.lit("line:"), F.col("line"))
    good = F.col("problem").isNull()
    return rows.select(
        F.col("list").alias("unit"),
        "position",
        F.coalesce(
            F.when(good, F.coalesce(_filled(layout.record), _filled(layout.image))), line
        ).alias("record"),
        F.when(good, image).alias("name"),
        "problem",
        *(F.when(good, c).alias(n) for n, c in columns.items()),
        # The image's name stays: it says what was not found.
        without(list(layout.columns.values())).alias("fields"),
    )

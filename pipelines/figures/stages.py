"""Which figures a stage has still to see, and in which portions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_IDENTITY = ["figure_id", "revision"]


def to_do(figures: DataFrame, stage: DataFrame) -> DataFrame:
    """The figures that the stage's table does not have in their present revision.

    Columns: figure_id, revision, delivery_id. `figures` is bronze.figures.
    """
    return figures.select(*_IDENTITY, "delivery_id").join(stage, _IDENTITY, "left_anti")


def outdated(figures: DataFrame, stage: DataFrame) -> DataFrame:
    """The figures, each once, of which the stage's table has a revision that is no more."""
    now = figures.select(*_IDENTITY)
    return stage.select(*_IDENTITY).join(now, _IDENTITY, "left_anti").select("figure_id").distinct()


def portions(sizes: Sequence[tuple[str, int]], most: int) -> Iterator[tuple[list[str], int]]:
    """Deliveries gathered until they have `most` figures, with how many they have.

    `sizes` are (delivery_id, figures to do). What a delivery brought lies together in the table,
    so a portion reads files of its own; a delivery is not cut, however large it is.
    """
    names: list[str] = []
    total = 0
    for name, size in sizes:
        if names and total + size > most:
            yield names, total
            names, total = [], 0
        names.append(name)
        total += size
    if names:
        yield names, total


def of_portion(figures: DataFrame, names: Sequence[str], ids: DataFrame) -> DataFrame:
    """The figures of the deliveries `names` that are among `ids`, images and all.

    `ids`, from `to_do`, is broadcast: images are not shuffled.
    """
    wanted = F.broadcast(ids.where(F.col("delivery_id").isin(list(names))).select(*_IDENTITY))
    mine = figures.where(F.col("delivery_id").isin(list(names)))
    return mine.join(wanted, _IDENTITY, "left_semi")

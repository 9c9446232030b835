"""What is expected of tables, as data: which rows, and which expectations."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame

from schemas import Expectation


@dataclass(frozen=True)
class Batch:
    """Rows that are looked at together, under a name, and what is expected of them.

    `few` says that they are so few, a row a day or a file, that they are checked on the driver.
    """

    name: str
    rows: DataFrame
    expectations: tuple[Expectation, ...]
    few: bool = False


def not_met(batch: Batch) -> list[str]:
    """What does not hold of a batch of one row of counts, in words.

    For a job that refuses before it writes, where each expectation is a range of a column.
    """
    (row,) = batch.rows.collect()
    lines = []
    for e in batch.expectations:
        column, low, high = (e.kwargs[k] for k in ("column", "min_value", "max_value"))
        value = row[column]
        if e.level == "error" and not low <= value <= high:
            lines.append(f"{batch.name}: {column} is {value:,}, should be {low:,} to {high:,}")
    return lines

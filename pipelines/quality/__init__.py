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

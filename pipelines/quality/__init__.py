"""What is expected of tables, as data: which rows, and which expectations."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame

from schemas import Expectation


@dataclass(frozen=True)
class Batch:
    """Rows that are looked at together, under a name, and what is expected of them."""

    name: str
    rows: DataFrame
    expectations: tuple[Expectation, ...]

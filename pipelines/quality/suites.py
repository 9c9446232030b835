"""The expectations that follow from a table's declaration, and those written beside it."""

from __future__ import annotations

import re

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.quality import Batch
from schemas import Expectation, Table

_BREAKS = "breaks_"


def batch_of(table: Table, rows: DataFrame) -> Batch:
    """Rows of the table under what is expected of them: no NULL where none may be, the key unique,
    every CHECK true, and what is written beside the declaration.

    Delta refuses rows that break the first and the third when they are written; here they show
    what came into a table by another way, or before a constraint was declared.

    The batch has the columns that are looked at, and for each CHECK a column breaks_NAME: NULL
    where it holds, else the columns that it speaks of, with the key, as JSON. So one aggregation
    counts all of them.
    """
    expectations = (
        *(
            Expectation("expect_column_values_to_not_be_null", {"column": c.name})
            for c in table.columns
            if not c.nullable
        ),
        _unique(table.key),
        *(_holds(name, sql) for name, sql in table.checks.items()),
        *table.expectations,
    )
    broken = {_BREAKS + name: _broken(table, sql) for name, sql in table.checks.items()}
    named = {name for e in expectations for name in _columns(e)}
    kept = [c.name for c in table.columns if c.name in named]
    return Batch(
        table.name, rows.select(*kept, *(c.alias(n) for n, c in broken.items())), expectations
    )


def _columns(expectation: Expectation) -> list[str]:
    kwargs = expectation.kwargs
    return [kwargs["column"]] if "column" in kwargs else list(kwargs.get("column_list", ()))


def _unique(key: tuple[str, ...]) -> Expectation:
    if len(key) == 1:
        return Expectation("expect_column_values_to_be_unique", {"column": key[0]})
    return Expectation("expect_compound_columns_to_be_unique", {"column_list": list(key)})


def _holds(name: str, sql: str) -> Expectation:
    return Expectation(
        "expect_column_values_to_be_null",
        {"column": _BREAKS + name},
        description=f"constraint {name}: {sql}",
    )


def _broken(table: Table, sql: str) -> Column:
    # A CHECK that yields NULL fails, so NULL counts as a violation here too.
    holds = F.coalesce(F.expr(sql), F.lit(False))
    words = set(re.findall(r"\w+", sql))
    shown = [c.name for c in table.columns if c.name in {*words, *table.key}]
    return F.when(~holds, F.to_json(F.struct(*shown)))

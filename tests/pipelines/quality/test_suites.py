"""What a declaration implies is expected of the table, each once."""

from __future__ import annotations

import pytest

from pipelines.quality.suites import suite_of
from schemas import RETURN_TRIPS, TABLES, TRIPS, Table


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_each_column_that_may_not_be_null_and_each_check_is_expected(table: Table) -> None:
    suite = suite_of(table)
    not_null = [e.kwargs["column"] for e in suite if e.type.endswith("not_be_null")]
    assert not_null == [c.name for c in table.columns if not c.nullable]
    checks = [e for e in suite if e.type == "unexpected_rows_expectation"]
    assert len(checks) == len(table.checks)
    assert all(e in suite for e in table.expectations)


def test_keys_are_unique() -> None:
    assert [e.kwargs for e in suite_of(TRIPS) if "unique" in e.type] == [{"column": "trip_id"}]
    (compound,) = [e for e in suite_of(RETURN_TRIPS) if "unique" in e.type]
    assert compound.kwargs == {"column_list": ["trip_id", "return_trip_id"]}


def test_a_check_that_yields_null_is_a_violation() -> None:
    (query,) = [
        e.kwargs["unexpected_rows_query"]
        for e in suite_of(TRIPS)
        if e.description == "constraint starts_before_it_ends: dropoff_at >= pickup_at"
    ]
    assert query == "SELECT * FROM {batch} WHERE NOT coalesce(dropoff_at >= pickup_at, false)"

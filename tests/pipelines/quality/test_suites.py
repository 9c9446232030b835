"""What a declaration implies is expected of the table, each once."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from pipelines.quality import Batch
from pipelines.quality.suites import batch_of
from schemas import RETURN_TRIPS, TABLES, TRIPS, Table
from schemas.frames import frame_of
from schemas.table import BIGINT, Column


def suite(spark: SparkSession, table: Table) -> Batch:
    return batch_of(table, frame_of(spark, [], table.struct))


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_each_column_that_may_not_be_null_and_each_check_is_expected(
    spark: SparkSession, table: Table
) -> None:
    expected = suite(spark, table)
    not_null = [e.kwargs["column"] for e in expected.expectations if e.type.endswith("not_be_null")]
    assert not_null == [c.name for c in table.columns if not c.nullable]
    checks = [e.kwargs["column"] for e in expected.expectations if e.type.endswith("to_be_null")]
    assert checks == [f"breaks_{name}" for name in table.checks]
    assert {*not_null, *checks, *table.key} <= set(expected.rows.columns)
    assert all(e in expected.expectations for e in table.expectations)


def test_keys_are_unique(spark: SparkSession) -> None:
    trips = suite(spark, TRIPS).expectations
    assert [e.kwargs for e in trips if "unique" in e.type] == [{"column": "trip_id"}]
    (compound,) = [e for e in suite(spark, RETURN_TRIPS).expectations if "unique" in e.type]
    assert compound.kwargs == {"column_list": ["trip_id", "return_trip_id"]}


def test_a_row_that_breaks_a_check_is_shown_and_null_breaks_it(spark: SparkSession) -> None:
    table = Table(
        "silver.made",
        "Made.",
        (Column("id", BIGINT, "key"), Column("a", BIGINT, "any"), Column("b", BIGINT, "any")),
        key=("id",),
        checks={"a_is_small": "a < 3"},
    )
    rows = frame_of(spark, [(1, 2, 0), (2, 3, 0), (3, None, 0)], table.struct)
    shown = [r["breaks_a_is_small"] for r in batch_of(table, rows).rows.orderBy("id").collect()]
    assert shown == [None, '{"id":2,"a":3}', '{"id":3}']

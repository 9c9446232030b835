"""The lake: tables made as declared, and what Delta then refuses."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from jobs.lake import Lake
from pipelines.errors import UsageError
from schemas import RETURN_TRIPS, TRIPS, SchemaMismatch, Table
from schemas.frames import frame_of
from schemas.table import BIGINT, STRING, Column

THINGS = Table(
    name="test.things",
    comment='It\'s a table of things; "quoted".',
    columns=(
        Column("id", BIGINT, "which", nullable=False),
        Column("kind", STRING, "what it's called", "a `word`"),
    ),
    key=("id",),
    cluster_by=("id",),
    checks={"positive": "id > 0"},
)


def things(spark: SparkSession, *rows: tuple[int | None, str]) -> DataFrame:
    return frame_of(spark, rows, "id BIGINT, kind STRING")


def held(lake: Lake) -> list[tuple[int, str]]:
    return sorted((r["id"], r["kind"]) for r in lake.read(THINGS).collect())


def test_table_is_made_as_declared(lake: Lake) -> None:
    for table in (THINGS, TRIPS, RETURN_TRIPS):
        lake.create(table, {"roundtrip.test": "x"})
        detail = DeltaTable.forPath(lake.spark, lake.path(table)).detail().collect()[0]
        assert lake.path(table) == f"{lake.root}/{table.name.replace('.', '/')}"
        assert detail["description"] == table.comment
        assert tuple(detail["clusteringColumns"]) == table.cluster_by
        assert {k: detail["properties"][f"delta.constraints.{k}"] for k in table.checks} == dict(
            table.checks
        )
        schema = lake.read(table).schema
        assert [f.nullable for f in schema] == [c.nullable for c in table.columns]
        assert [f.metadata["comment"] for f in schema] == [c.description for c in table.columns]
        assert lake.properties(table)["roundtrip.test"] == "x"
        assert lake.version(table) == 0
        lake.create(table)
        assert lake.version(table) == 0


def test_append_replace_merge(lake: Lake, spark: SparkSession) -> None:
    lake.append(THINGS, things(spark, (1, "a"), (2, "b")))
    # Columns by name, whatever their order.
    lake.append(THINGS, things(spark, (3, "c")).select("kind", "id"))
    assert held(lake) == [(1, "a"), (2, "b"), (3, "c")]
    lake.replace(THINGS, things(spark, (2, "B")), "id IN (2, 3)")
    assert held(lake) == [(1, "a"), (2, "B")]
    lake.merge(THINGS, things(spark, (1, "A"), (9, "z")))
    assert held(lake) == [(1, "A"), (2, "B"), (9, "z")]
    lake.replace(THINGS, lake.read(THINGS).limit(0), "id = 9")
    assert held(lake) == [(1, "A"), (2, "B")]
    assert sorted(lake.read(THINGS, 1).collect()) == [(1, "a"), (2, "b")]


def test_rows_outside_of_what_is_replaced_are_refused(lake: Lake, spark: SparkSession) -> None:
    lake.append(THINGS, things(spark, (1, "a"), (2, "b")))
    with pytest.raises(Exception, match="does not conform to partial table overwrite"):
        lake.replace(THINGS, things(spark, (2, "B"), (3, "c")), "id = 2")
    assert held(lake) == [(1, "a"), (2, "b")]


def test_constraints_hold(lake: Lake, spark: SparkSession) -> None:
    lake.append(THINGS, things(spark, (1, "a")))
    with pytest.raises(Exception, match="CHECK constraint positive"):
        lake.append(THINGS, things(spark, (-1, "b")))
    with pytest.raises(Exception, match="violated"):
        lake.append(THINGS, things(spark, (None, "b")))
    assert held(lake) == [(1, "a")]


def test_other_columns_are_named(lake: Lake, spark: SparkSession) -> None:
    with pytest.raises(SchemaMismatch, match=r"rows for test.things do not fit: kind: missing"):
        lake.append(THINGS, spark.range(1))
    assert not lake.exists(THINGS)
    other = spark.range(1).selectExpr("CAST(id AS INT) id", "'x' AS kind", "1 AS extra")
    message = r"test.things at .*: extra: not declared, is int; id: is int, should be bigint"
    other.write.format("delta").save(lake.path(THINGS))
    with pytest.raises(SchemaMismatch, match=message):
        lake.read(THINGS)


def test_missing_table_is_a_usage_error(lake: Lake) -> None:
    with pytest.raises(UsageError, match=r"no table test.things at .*: check --lake"):
        lake.read(THINGS)
    assert (lake.version(THINGS), lake.exists(THINGS)) == (None, False)


def test_properties_are_never_sql(lake: Lake) -> None:
    values = ["it's", "a\\", "\\' OR", "`x` = 1); --", '{"a": [1, 2]}', "é\n"]
    properties = {f"roundtrip.o'k{i}": value for i, value in enumerate(values)}
    lake.create(THINGS)
    lake.set_properties(THINGS, properties)
    assert lake.properties(THINGS).items() >= properties.items()


def test_lake_in_an_odd_folder(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake(spark, str(tmp_path / "it's [my] lake, 100%"))
    lake.append(THINGS, things(spark, (1, "a")))
    lake.set_properties(THINGS, {"roundtrip.x": "y"})
    lake.replace(THINGS, things(spark, (1, "b")), "id = 1")
    assert held(lake) == [(1, "b")]


def test_first_writers_at_the_same_time_all_land(lake: Lake, spark: SparkSession) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [
            pool.submit(Lake(spark, lake.root).append, THINGS, things(spark, (i, "x")))
            for i in range(1, 5)
        ]:
            done.result()
    assert held(lake) == [(i, "x") for i in range(1, 5)]


def test_writers_of_a_table_take_turns(lake: Lake, spark: SparkSession) -> None:
    lake.create(THINGS)
    with Path(lake.root, ".locks", THINGS.name).open("a") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = pool.submit(lake.append, THINGS, things(spark, (1, "a")))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        fcntl.flock(other, fcntl.LOCK_UN)
        waiting.result()
    assert held(lake) == [(1, "a")]


def test_a_table_whose_first_commit_was_cut_off_can_be_made(
    lake: Lake, spark: SparkSession
) -> None:
    log = Path(lake.path(THINGS), "_delta_log")
    (log / "_staged_commits").mkdir(parents=True)
    (log / ".00000000000000000000.json.1234.tmp").write_text("{}")
    assert not lake.exists(THINGS)
    lake.append(THINGS, things(spark, (1, "a")))
    assert held(lake) == [(1, "a")]


@pytest.mark.slow
def test_merges_at_the_same_time_all_land(lake: Lake, spark: SparkSession) -> None:
    lake.create(THINGS)
    with ThreadPoolExecutor(3) as pool:
        for done in [
            pool.submit(Lake(spark, lake.root).merge, THINGS, things(spark, (1, f"{i}"), (i, "x")))
            for i in range(2, 5)
        ]:
            done.result()
    assert [i for i, _ in held(lake)] == [1, 2, 3, 4]

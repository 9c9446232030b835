"""A lake of an earlier version: refused, unless a run is asked to add what was declared since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.ingest_trips import main as ingest
from jobs.lake import Lake
from schemas import DELIVERIES, TRIPS, TRIPS_RAW, TRIPS_REJECTED, SchemaMismatch, Table
from schemas.frames import frame_of
from schemas.table import BIGINT, STRING, Column
from tests.job_runs import job_on
from tests.made_trips import commuters, silver_trips

OLD = Table(
    name="test.things",
    comment="Things.",
    columns=(Column("id", BIGINT, "which", nullable=False),),
    key=("id",),
    checks={"positive": "id > 0"},
)
NOTE = Column("note", STRING, "a remark", "words")
NEW = replace(OLD, columns=(*OLD.columns, NOTE))
OLD_TRIPS = replace(TRIPS, columns=tuple(c for c in TRIPS.columns if c.name != "vendor"))

HEADER = (
    "pickup_datetime,dropoff_datetime,pickup_longitude,pickup_latitude,dropoff_longitude,"
    "dropoff_latitude,vendor_id"
)
TRIP = "2015-12-01 08:00:00,2015-12-01 08:10:00,-73.98,40.75,-73.97,40.76,VTS"


@pytest.fixture
def old(lake: Lake) -> Lake:
    lake.append(OLD, lake.spark.range(1, 3))
    return lake


def test_a_column_declared_since_is_refused_by_readers_and_writers(old: Lake) -> None:
    said = r"test.things at .*: note: missing, should be string -- .* once with --evolve-schema"
    with pytest.raises(SchemaMismatch, match=said):
        old.read(NEW)
    rows = frame_of(old.spark, [(3, "new")], NEW.struct)
    for write in (
        lambda: old.append(NEW, rows),
        lambda: old.replace(NEW, rows, "id = 3"),
        lambda: old.merge(NEW, rows),
    ):
        with pytest.raises(SchemaMismatch, match=said):
            write()
    assert old.read(OLD).count() == 2


def test_it_is_added_once_and_the_rows_that_are_there_have_null(old: Lake) -> None:
    assert old.evolve([NEW, TRIPS]) == {"test.things": ["note"]}
    old.append(NEW, frame_of(old.spark, [(3, "new")], NEW.struct))
    rows = {r["id"]: r["note"] for r in old.read(NEW).collect()}
    assert rows == {1: None, 2: None, 3: "new"}
    schema = old.read(NEW).schema
    assert schema["note"].metadata["comment"] == NOTE.description
    version = old.version(NEW)
    assert old.evolve([NEW]) == {}
    assert old.version(NEW) == version
    with pytest.raises(Exception, match="CHECK constraint positive"):
        old.append(NEW, frame_of(old.spark, [(-1, None)], NEW.struct))
    # And by the earlier version the newer table is refused.
    with pytest.raises(SchemaMismatch, match=r"note: not declared, is string$"):
        old.read(OLD)


def test_a_version_of_before_is_read_with_null_in_the_column(old: Lake) -> None:
    before = old.version(OLD)
    with pytest.raises(SchemaMismatch, match="once with --evolve-schema"):
        old.read(NEW, before)  # it is the newest, so that helps
    old.evolve([NEW])
    assert {(r["id"], r["note"]) for r in old.read(NEW, before).collect()} == {(1, None), (2, None)}
    other = replace(NEW, columns=(*NEW.columns, replace(NOTE, name="must", nullable=False)))
    with pytest.raises(SchemaMismatch, match="must: missing"):
        old.read(other, before)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (replace(NOTE, nullable=False), r"note: missing, should be string$"),
        (replace(NOTE, name="id"), r"id: is bigint, should be string$"),
    ],
)
def test_what_cannot_be_added_stays_refused(old: Lake, column: Column, said: str) -> None:
    others = tuple(c for c in OLD.columns if c.name != column.name)
    other = replace(OLD, columns=(*others, column), key=(column.name,))
    assert old.evolve([other]) == {}
    with pytest.raises(SchemaMismatch, match=said):
        old.read(other)


def test_rows_with_a_column_that_is_not_declared_are_refused_either_way(old: Lake) -> None:
    rows = old.spark.range(3, 4).selectExpr("id", "'x' AS note", "1 AS extra")
    old.evolve([NEW])
    with pytest.raises(SchemaMismatch, match=r"rows for test.things do not fit: extra: not decl"):
        old.append(NEW, rows)


@pytest.mark.slow
def test_an_ingestion_into_an_old_lake(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake.append(OLD_TRIPS, silver_trips(lake.spark, commuters(4)).drop("vendor"))
    file = tmp_path / "a.csv"
    file.write_text(f"{HEADER}\n{TRIP}\n")
    job = job_on(lake, ingest, capsys)
    code, line, _ = job(str(file))
    assert (code, line["outcome"]) == (1, "failed")
    assert "silver.trips at " in line["error"]
    assert "vendor: missing, should be string" in line["error"]
    assert "--evolve-schema" in line["error"]
    assert not any(map(lake.exists, (TRIPS_RAW, TRIPS_REJECTED, DELIVERIES)))
    code, line, err = job(str(file), "--evolve-schema")
    assert (code, line["rows"]["accepted"]) == (0, 1)
    assert "ingest_trips: added vendor to silver.trips" in err
    assert sorted(str(r["vendor"]) for r in lake.read(TRIPS).collect()) == ["None"] * 4 + ["VTS"]
    assert job(str(file))[0] == 0

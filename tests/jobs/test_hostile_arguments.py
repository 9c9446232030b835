"""What comes from arguments is data: it never becomes SQL, and never reaches beyond its folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import check_quality, ingest_trips, maintain, replay_rejected, return_trips
from jobs.lake import Lake
from schemas import TRIPS
from tests.job_runs import job_on
from tests.made_trips import commuters, silver_trips

WORSE = "x'; DROP TABLE victim; --"


@pytest.fixture
def victim(spark: SparkSession) -> str:
    """A view that would be gone if an argument became SQL."""
    spark.range(1).createOrReplaceTempView("victim")
    return "victim"


@pytest.mark.slow
def test_a_lake_may_have_any_name(spark: SparkSession, tmp_path: Path, victim: str) -> None:
    lake = Lake(spark, str(tmp_path / f"it's {WORSE}"))
    lake.append(TRIPS, silver_trips(spark, commuters(4)))
    lake.set_properties(TRIPS, {"it's": WORSE})
    lake.optimize(TRIPS)
    assert lake.vacuum(TRIPS, timedelta(days=7), dry_run=True) == 0
    assert lake.properties(TRIPS)["it's"] == WORSE
    assert lake.read(TRIPS).count() == 4
    assert spark.table(victim).count() == 1
    assert [p.name for p in tmp_path.iterdir()] == [f"it's {WORSE}"]


def test_a_name_that_sql_cannot_quote_is_refused(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(spark, str(tmp_path / "a`b"))
    code, line, _ = job_on(lake, maintain.main, capsys)()
    assert (code, line["outcome"]) == (2, "usage")
    assert "must not have a `" in line["error"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (check_quality.main, [f"silver.trips {WORSE}"]),
        (check_quality.main, ["silver.trips", "--start", "2015-12-01' OR '1'='1"]),
        (check_quality.main, ["silver.trips", "--start", "2015-12-01", "--timezone", WORSE]),
        (return_trips.main, ["--start", "2015-12-01' OR '1'='1"]),
        (return_trips.main, ["--radii", "50; DROP TABLE victim"]),
        (maintain.main, ["../../silver.trips"]),
        (replay_rejected.main, ["--reason", "x' OR '1'='1"]),
        (ingest_trips.main, ["no.csv", "--timezone", "UTC' OR '1'='1"]),
    ],
)
def test_hostile_values_are_wrong_arguments(
    main: object, arguments: list[str], lake: Lake, capsys: pytest.CaptureFixture[str], victim: str
) -> None:
    assert callable(main)
    code, line, _ = job_on(lake, main, capsys)(*arguments)
    assert (code, line["outcome"]) == (2, "usage"), line
    assert lake.spark.table(victim).count() == 1

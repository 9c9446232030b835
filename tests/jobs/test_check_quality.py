"""The quality gate: what passes, what is told, what stops, and where it can be read afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import functions as F

from jobs.check_quality import main
from jobs.lake import Lake
from jobs.return_trips import main as return_trips
from schemas import DELIVERIES, QUALITY_RESULTS, RETURN_TRIPS, TRIPS
from schemas.frames import frame_of
from tests.job_runs import Job, job_on
from tests.made_trips import commuters, silver_trips

pytestmark = pytest.mark.slow
FILE = "0" * 64


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """A lake with a day of trips from one file."""
    lake.append(TRIPS, silver_trips(lake.spark, commuters(450)))
    delivery = (FILE, ["file:/a.csv"], 1, "nyc_tlc", "{}", 451, 450, 1, "a run")
    lake.append(DELIVERIES, frame_of(lake.spark, [delivery], DELIVERIES.struct))
    return lake


@pytest.fixture
def checked(filled: Lake) -> Lake:
    """With the return trips of that day."""
    assert return_trips(["--lake", filled.root]) == 0
    return filled


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tmp_path / "pages"


@pytest.fixture
def job(lake: Lake, docs: Path, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(lake, main, capsys, "--docs", str(docs))


def test_good_tables_pass_and_every_result_is_kept(job: Job, checked: Lake, docs: Path) -> None:
    for table in ("silver.trips", "gold.return_trips", "gold.return_trip_stats"):
        code, line, _ = job(table, "--run-id", table)
        assert (code, line["outcome"], line["not_met"]) == (0, "done", []), table
        rows = checked.read(QUALITY_RESULTS).where(F.col("run_id") == table).collect()
        assert len(rows) == line["expectations"] > 5
        assert all(r["success"] and r["checked"] == table for r in rows)
    assert (docs / "index.html").exists()
    pages = list((docs / "validations").rglob("*.html"))
    assert len(pages) == 7  # each of the three tables, and figures beside each
    assert any("trip_id" in p.read_text() for p in pages)


def test_statistics_are_checked_in_whole_hours(job: Job, checked: Lake) -> None:
    """A day of Kolkata begins at half past an hour of UTC."""
    of_a_day = ("--start", "2015-12-01T15:00:00", "--end", "2015-12-01T23:00:00")
    code, line, _ = job("gold.return_trip_stats", *of_a_day, "--timezone", "Asia/Kolkata")
    assert (code, line["not_met"]) == (0, [])


def test_days_are_of_the_time_zone_of_the_files(job: Job, filled: Lake, docs: Path) -> None:
    """Unless --timezone says another one, which it must where files are of several."""

    def came_from(*zones: str) -> None:
        rows = [
            (f"{i:064}", ["file:/a.csv"], 1, "own", f'{{"timezone": "{zone}"}}', 1, 1, 0, "a run")
            for i, zone in enumerate(zones, 1)
        ]
        filled.append(DELIVERIES, frame_of(filled.spark, rows, DELIVERIES.struct))

    def page_of(*argv: str) -> str:
        assert job("gold.return_trips", "--start", "2015-12-01", *argv)[0] == 0
        return (docs / "gold.return_trips.html").read_text()

    assert return_trips(["--lake", filled.root]) == 0
    assert "from 2015-12-01 00:00, time of America/New_York" in page_of()
    came_from("Europe/Lisbon")
    assert "from 2015-12-01 00:00, time of Europe/Lisbon" in page_of()
    came_from("Asia/Kolkata")
    code, _, err = job("gold.return_trips", "--start", "2015-12-01")
    assert code == 2
    assert "of several time zones, Asia/Kolkata, Europe/Lisbon: say with --timezone which" in err
    assert "time of UTC" in page_of("--timezone", "UTC")
    assert job("gold.return_trips")[0] == 0  # all rows, of whatever day


def test_a_violation_stops_and_says_what_where_and_how_much(
    job: Job, checked: Lake, docs: Path
) -> None:
    checked.spark.sql(f"DELETE FROM delta.`{checked.path(TRIPS)}` WHERE trip_id = 7")
    before = checked.version(RETURN_TRIPS)
    code, line, err = job("gold.return_trips", "--run-id", "bad")
    assert (code, line["outcome"]) == (3, "refused")
    assert "trips of the pairs: outbound_missing is 0" in err
    page = docs / "gold.return_trips.html"
    assert str(page) in line["error"]
    assert line["page"] == str(page)
    assert checked.version(RETURN_TRIPS) == before
    failed = checked.read(QUALITY_RESULTS).where("run_id = 'bad' AND NOT success").collect()
    assert {r["level"] for r in failed} == {"error"}
    assert all(r["unexpected"] == 1 and r["examples"] for r in failed)
    first, *others = page.read_text().split("<tbody>")[1].split("<tr>")[1:]
    assert "✗ error</td><td>trips of the pairs</td><td>outbound_missing is 0" in first
    assert sum("✗ error" in row for row in others) == len(failed) - 1
    assert all("✗ error" in row or "✓ holds" in row for row in others)


def test_a_warning_goes_on(job: Job, filled: Lake) -> None:
    late = commuters(60)  # three hours of the next day
    shifted = silver_trips(filled.spark, late).withColumns(
        {
            "pickup_at": F.col("pickup_at") + F.expr("INTERVAL 24 HOURS"),
            "dropoff_at": F.col("dropoff_at") + F.expr("INTERVAL 24 HOURS"),
            "day": F.date_add("day", 1),
            "trip_id": F.col("trip_id") + 1000,
            "source_row": F.col("source_row") + 1000,
        }
    )
    filled.append(TRIPS, shifted)
    code, line, _ = job("silver.trips", "--start", "2015-12-02", "--end", "2015-12-03")
    assert (code, line["quality"]) == (0, "warn")
    assert ["hours" in said for said in line["not_met"]] == [True]


def test_a_day_without_trips_is_told(job: Job, filled: Lake) -> None:
    later = filled.read(TRIPS).withColumns(
        {
            "day": F.date_add("day", 2),
            "trip_id": F.col("trip_id") + 1000,
            "source_row": F.col("source_row") + 1000,
        }
    )
    filled.append(TRIPS, later)
    code, line, _ = job("silver.trips")
    assert (code, line["quality"]) == (0, "warn")
    told = 'silver.trips by day: every day has trips: 1 of 3 rows, such as ["2015-12-02"]'
    assert line["not_met"] == [told]
    # Where the days are asked for, each must be there.
    code, line, _ = job("silver.trips", "--start", "2015-12-01", "--end", "2015-12-04")
    assert (code, line["outcome"]) == (3, "refused")
    assert told in line["error"]


def test_a_gate_checks_what_is_joined_and_leaves_pairs_as_they_were(
    job: Job, filled: Lake, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    join = job_on(filled, return_trips, capsys, "--gate", "--docs", str(docs))
    # A file without a single trip is of no day, and closes none.
    refused = ("1" * 64, ["file:/b.csv"], 1, "nyc_tlc", "{}", 9, 0, 9, "a run")
    filled.append(DELIVERIES, frame_of(filled.spark, [refused], DELIVERIES.struct))
    day = ("--start", "2015-12-01", "--end", "2015-12-02")
    code, line, _ = join("--run-id", "good", *day)
    assert (code, line["quality"], line["not_met"]) == (0, "passed", [])
    of_run = filled.read(QUALITY_RESULTS).where("run_id = 'good'").collect()
    assert {(r["checked"], r["version"]) for r in of_run} == {
        (TRIPS.name, line["tables_in"][TRIPS.name])
    }
    before = filled.version(RETURN_TRIPS)
    # Trips of the next day are returns of this one, so a bad file of them closes it too.
    next_day = F.col("pickup_at") + F.expr("INTERVAL 24 HOURS")
    own = {
        "trip_id": F.lit(1000).cast("bigint"),
        "file_id": F.lit("2" * 64),
        "day": F.date_add("day", 1),
    }
    moved = {"pickup_at": next_day, "dropoff_at": next_day + F.expr("INTERVAL 10 MINUTES")}
    first = filled.read(TRIPS).where("trip_id = 0").withColumns({**own, **moved})
    filled.append(TRIPS, first)
    bad = ("2" * 64, ["file:/c.csv"], 1, "nyc_tlc", "{}", 9, 1, 8, "a run")
    filled.append(DELIVERIES, frame_of(filled.spark, [bad], DELIVERIES.struct))
    code, line, err = join("--run-id", "next", *day)
    assert (code, line["outcome"]) == (3, "refused")
    assert "share_rejected" in err
    filled.spark.sql(f"DELETE FROM delta.`{filled.path(TRIPS)}` WHERE trip_id = 1000")
    twice = filled.read(TRIPS).where("trip_id = 7")
    filled.append(TRIPS, twice)
    code, line, err = join("--run-id", "bad")
    assert (code, line["outcome"]) == (3, "refused")
    assert line["page"] == str(docs / "silver.trips.html")
    assert "trip_id" in err
    assert filled.version(RETURN_TRIPS) == before


def test_an_interval_without_trips_stops(job: Job, filled: Lake) -> None:
    code, line, _ = job("silver.trips", "--start", "2016-01-01", "--end", "2016-01-02")
    assert (code, line["outcome"]) == (3, "refused")
    assert "silver.trips by day" in line["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bronze.trips_raw"], "invalid choice"),
        (["silver.trips_rejected", "--start", "2015-12-01"], "no time by which"),
        (["silver.trips", "--start", "2015-12-02", "--end", "2015-12-01"], "is not before"),
    ],
)
def test_wrong_arguments(job: Job, arguments: list[str], said: str) -> None:
    code, line, _ = job(*arguments)
    assert (code, line["outcome"]) == (2, "usage")
    assert said in line["error"]

"""The job around the join: what it writes, what it replaces, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

import jobs.return_trips
from jobs.lake import Lake
from jobs.pair_table import REWRITING, seconds_of
from schemas import RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS, Table
from tests.job_processes import content
from tests.job_runs import Job, job_on
from tests.made_trips import MIDNIGHT, Trip, north_m, silver_trips, us

HOUR = 3600 * 10**6
DAY = 24 * HOUR
NOON = us(MIDNIGHT) + 12 * HOUR
HOME, WORK = (40.75, -73.99), (40.70, -74.01)

# OUT reaches work at 12:20. BACK leaves there 40 minutes later and LATER after 60 minutes, LATER to
# a door 120 m from home; nobody goes back the way ELSEWHERE came. The same on the next day.
OUT = Trip(1, NOON, NOON + HOUR // 3, *HOME, *WORK)
BACK = Trip(2, NOON + HOUR, NOON + HOUR * 4 // 3, *WORK, *HOME)
LATER = Trip(3, NOON + HOUR * 4 // 3, NOON + HOUR * 5 // 3, *WORK, HOME[0] + north_m(120), HOME[1])
ELSEWHERE = Trip(4, NOON, NOON + HOUR // 2, 40.8, -73.9, 40.6, -73.8)
FIRST_DAY = (OUT, BACK, LATER, ELSEWHERE)


def next_day(trip: Trip) -> Trip:
    return replace(
        trip,
        trip_id=trip.trip_id + 100,
        pickup_us=trip.pickup_us + DAY,
        dropoff_us=trip.dropoff_us + DAY,
    )


@pytest.fixture
def job(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(lake, jobs.return_trips.main, capsys)


@pytest.fixture
def two_days(spark: SparkSession, lake: Lake) -> Lake:
    lake.append(TRIPS, silver_trips(spark, [*FIRST_DAY, *map(next_day, FIRST_DAY)]))
    return lake


def test_pairs_and_statistics_are_written_and_reported(two_days: Lake, job: Job) -> None:
    code, line, _ = job()
    assert code == 0
    # On each day OUT has BACK (gap 0 m) and LATER (120 m) as returns.
    assert line["pairs_by_radius_m"] == {"50": 2, "100": 2, "150": 4, "200": 4}
    assert line["rows"] == {"outbound_read": 8, "inbound_read": 8, "pairs_written": 4}
    assert line["method"] == "native"
    assert line["tables_in"] == {"silver.trips": two_days.version(TRIPS)}
    assert line["tables_out"]["gold.return_trips"] == two_days.version(RETURN_TRIPS)
    pairs = {row[:2] for row in content(two_days, RETURN_TRIPS)}
    assert pairs == {(1, 2), (1, 3), (101, 102), (101, 103)}
    hours = {
        (r["day"].day, r["hour"], r["radius_m"]): tuple(r)[4:]
        for r in two_days.read(RETURN_TRIP_STATS).collect()
    }
    # In the hour from 12 to 13 OUT and ELSEWHERE end: 2 trips, one of them with returns, after
    # 2400 s and, closer than 150 m only, after 3600 s.
    assert hours[1, 12, 100] == (2, 1, 1, 0.5, 2400.0)
    assert hours[1, 12, 150] == (2, 2, 1, 0.5, 3000.0)
    assert hours[2, 12, 200] == (2, 2, 1, 0.5, 3000.0)
    # BACK and LATER end from 13 to 14 and have no return.
    assert hours[1, 13, 200] == (2, 0, 0, 0.0, None)
    assert len(hours) == 2 * 2 * 4


@pytest.mark.slow
def test_naive_and_a_second_run_leave_the_same_tables(two_days: Lake, job: Job) -> None:
    job()
    first = content(two_days, RETURN_TRIPS), content(two_days, RETURN_TRIP_STATS)
    job("--method", "naive")
    assert (content(two_days, RETURN_TRIPS), content(two_days, RETURN_TRIP_STATS)) == first


@pytest.mark.slow
def test_an_interval_replaces_its_own_pairs_only(
    spark: SparkSession, two_days: Lake, job: Job
) -> None:
    job()
    before = content(two_days, RETURN_TRIPS), content(two_days, RETURN_TRIP_STATS)
    # A late file brings one more way back on the second day; both days' first pairs stay.
    late = replace(next_day(BACK), trip_id=200)
    two_days.append(TRIPS, silver_trips(spark, [late]))
    code, line, _ = job("--start", "2015-12-02", "--end", "2015-12-03")
    assert (code, line["pairs_by_radius_m"]["200"], line["rows"]["outbound_read"]) == (0, 3, 5)
    after = content(two_days, RETURN_TRIPS), content(two_days, RETURN_TRIP_STATS)
    assert set(after[0]) - set(before[0]) == {r for r in after[0] if r[1] == 200}
    assert set(before[0]) <= set(after[0])
    job()  # the whole table again: the interval left it as a full run does
    assert (content(two_days, RETURN_TRIPS), content(two_days, RETURN_TRIP_STATS)) == after


@pytest.mark.slow
def test_statistics_count_whole_hours_whatever_the_interval(two_days: Lake, job: Job) -> None:
    job()
    before = content(two_days, RETURN_TRIP_STATS)
    # Half of the hour in which OUT and ELSEWHERE end, one on each side of the limit.
    code, line, _ = job("--start", "2015-12-01T12:25", "--end", "2015-12-01T12:45")
    assert (code, line["rows"]["outbound_read"]) == (0, 1)
    assert content(two_days, RETURN_TRIP_STATS) == before


@pytest.mark.slow
def test_other_rules_are_refused_beside_stored_pairs(two_days: Lake, job: Job) -> None:
    job()
    day = ("--start", "2015-12-01", "--end", "2015-12-02")
    code, line, err = job("--radii-m", "75", "--window", "2h", *day)
    assert code == 2
    assert "radii 50,100,150,200 m, window 28800 s" in line["error"]
    assert "radii 75 m, window 7200 s" in line["error"]
    assert "leave out --start, --end and --incremental" in line["error"]
    assert line["error"] in err
    code, line, _ = job("--radii-m", "75", "--window", "2h")  # the whole table may change its rules
    assert (code, line["pairs_by_radius_m"]) == (0, {"75": 2})
    assert two_days.properties(RETURN_TRIPS)["roundtrip.radii_m"] == "75"
    assert {r["radius_m"] for r in two_days.read(RETURN_TRIP_STATS).collect()} == {75}
    assert job(*day)[0] == 2  # and now the old ones are the others


@pytest.mark.slow
def test_an_interrupted_rewrite_blocks_intervals_until_it_is_done(two_days: Lake, job: Job) -> None:
    job()
    two_days.set_properties(RETURN_TRIPS, {REWRITING: "true"})  # then killed
    code, line, _ = job("--start", "2015-12-01")
    assert (code, "rewrite was cut off" in line["error"]) == (2, True)
    assert job()[0] == 0
    assert job("--start", "2015-12-01")[0] == 0


@pytest.mark.slow
def test_a_rewrite_that_begins_meanwhile_is_noticed(
    two_days: Lake, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job()
    before = content(two_days, RETURN_TRIPS)
    real = Lake._write

    def after_another(lake: Lake, table: Table, write: Callable[[], object]) -> None:
        if table is RETURN_TRIPS:
            monkeypatch.undo()
            lake.set_properties(RETURN_TRIPS, {REWRITING: "another"})
        real(lake, table, write)

    monkeypatch.setattr(Lake, "_write", after_another)
    code, line, _ = job("--start", "2015-12-02", "--end", "2015-12-02T12:10")  # of no pair
    assert (code, "another run rewrites gold.return_trips" in line["error"]) == (2, True)
    assert content(two_days, RETURN_TRIPS) == before


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(hours=8), "28800"),
        (timedelta(seconds=1234567), "1234567"),
        (timedelta(microseconds=28800010001), "28800.010001"),
    ],
)
def test_a_window_is_kept_to_the_microsecond(length: timedelta, said: str) -> None:
    assert seconds_of(length) == said


@pytest.mark.slow
def test_a_dry_run_estimates_and_writes_nothing(two_days: Lake, job: Job) -> None:
    code, line, err = job("--dry-run")
    assert (code, line["dry_run"]) == (0, True)
    assert not two_days.exists(RETURN_TRIPS)
    # So few trips are not sampled, and each commuter shares keys with the two who go back.
    assert line["estimate"]["sampled_share"] == 1.0
    assert line["estimate"]["candidates"] >= 4
    assert line["estimate"]["largest_buckets"][0]["candidates"] >= 1
    assert "candidates (exactly)" in err


def test_naive_refuses_what_is_too_large_unless_forced(
    two_days: Lake, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.return_trips, "NAIVE_LIMIT", 63)  # 8 x 8 trips are one more
    code, line, _ = job("--method", "naive")
    assert (code, "64 comparisons, more than 63" in line["error"]) == (2, True)
    assert not two_days.exists(RETURN_TRIPS)


@pytest.mark.slow
def test_naive_does_what_is_too_large_when_forced(
    two_days: Lake, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.return_trips, "NAIVE_LIMIT", 63)
    assert job("--method", "naive", "--force")[0] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--start", "2015-12-02", "--end", "2015-12-01"], "is not before --end"),
        (["--start", "yesterday"], "'yesterday' is no time: write 2015-12-01"),
        (["--start", ""], "'' is no time"),
        (["--end", "0900-01-01"], "'0900-01-01' is no time"),
        (["--timezone", "Mars/Olympus"], "no time zone 'Mars/Olympus'"),
    ],
)
def test_impossible_arguments_exit_2(job: Job, argv: list[str], message: str) -> None:
    code, line, _ = job(*argv)
    assert code == 2
    assert message in line["error"]


def test_a_lake_without_trips_exits_2_and_says_what_to_run(job: Job) -> None:
    code, line, _ = job()
    assert code == 2
    assert "no table silver.trips" in line["error"]
    assert "run the job that writes it first" in line["error"]

"""A run over what has changed leaves the tables as a run over everything does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import SparkSession

import jobs.return_trips
from jobs.lake import Lake
from jobs.pair_table import UP_TO
from schemas import RETURN_TRIP_MATCHES, RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS
from tests.job_processes import content
from tests.job_runs import Job, job_on
from tests.made_trips import MIDNIGHT, Trip, silver_trips, us

HOUR = 3600 * 10**6
NOON = us(MIDNIGHT) + 12 * HOUR
HOME, WORK = (40.75, -73.99), (40.70, -74.01)


def out(trip_id: int, day: int, hour: float = 0) -> Trip:
    """Leaves home on that day so many hours after noon, and is at work 20 minutes later."""
    start = NOON + int((24 * day + hour) * HOUR)
    return Trip(trip_id, start, start + HOUR // 3, *HOME, *WORK)


def back(trip_id: int, day: int, hour: float) -> Trip:
    return replace(
        out(trip_id, day, hour),
        pickup_lat=WORK[0],
        pickup_lon=WORK[1],
        dropoff_lat=HOME[0],
        dropoff_lon=HOME[1],
    )


# On each day a way out at noon and one at 23:00, and a way back at 14:00 and, on the next day, at
# 1:00: the pairs of the late ones reach over midnight.
def day(n: int) -> list[Trip]:
    first = 10 * n
    return [
        out(first + 1, n),
        back(first + 2, n, 2),
        out(first + 3, n, 11),
        back(first + 4, n, -11),
    ]


@pytest.fixture
def job(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(lake, jobs.return_trips.main, capsys)


def tables(lake: Lake) -> list[list[tuple[Any, ...]]]:
    return [content(lake, t) for t in (RETURN_TRIPS, RETURN_TRIP_STATS)]


def pairs(lake: Lake) -> set[tuple[int, int]]:
    rows = lake.read(RETURN_TRIPS).collect()
    return {(r["trip_id"], r["return_trip_id"]) for r in rows}


@pytest.mark.slow
def test_a_new_day_and_a_late_file_end_as_a_full_run_would(
    spark: SparkSession, lake: Lake, job: Job
) -> None:
    def land(*trips: Trip) -> None:
        lake.append(TRIPS, silver_trips(spark, trips))

    land(*day(0), *day(1), *day(2))
    code, line, err = job("--incremental")
    assert code == 0
    assert "was not made from all trips yet" in err  # so this is a full run
    assert line["rows"]["outbound_read"] == 12
    assert pairs(lake) == {(1, 2), (11, 12), (21, 22), (3, 14), (13, 24)}

    before = lake.version(RETURN_TRIPS)
    code, line, err = job("--incremental")
    assert (code, line["nothing_changed"], "is still at version" in err) == (0, True, True)
    assert lake.version(RETURN_TRIPS) == before

    land(*day(3))
    code, line, err = job("--incremental")
    assert code == 0
    # 8 h before 1:00, 12:00, 14:00 and 23:00 of the new day, to its end: not days 0 and 1.
    assert line["rows"]["outbound_read"] == 5
    assert pairs(lake) >= {(23, 34), (31, 32)}

    land(back(99, 0, 3))  # late, for the first day
    assert job("--incremental")[0] == 0
    assert (1, 99) in pairs(lake)
    after = tables(lake)
    assert job()[0] == 0
    assert tables(lake) == after
    # The full run left a mark as well.
    assert job("--incremental")[1]["nothing_changed"]


@pytest.mark.slow
def test_trips_that_went_take_their_pairs_with_them(
    spark: SparkSession, lake: Lake, job: Job
) -> None:
    lake.append(TRIPS, silver_trips(spark, [*day(0), *day(1)]))
    job()
    kept = silver_trips(spark, [*day(0)[:1], *day(0)[2:], *day(1)])
    lake.replace(TRIPS, kept, "true")  # without the first way back
    assert job("--incremental")[0] == 0
    after = tables(lake)
    assert pairs(lake) == {(11, 12), (3, 14)}
    job()
    assert tables(lake) == after


@pytest.mark.slow
def test_matches_are_brought_up_to_date_too(spark: SparkSession, lake: Lake, job: Job) -> None:
    match = ("--match", "first", "--how", "left")
    lake.append(TRIPS, silver_trips(spark, [*day(0), *day(1)]))
    code, line, _ = job(*match)
    assert code == 0
    assert line["rows"]["matches_written"] == 3
    assert line["rows"]["without_return_written"] == 5
    assert not lake.exists(RETURN_TRIPS)
    lake.append(TRIPS, silver_trips(spark, [*day(2), back(98, 0, 1)]))
    assert job(*match, "--incremental")[0] == 0
    after = content(lake, RETURN_TRIP_MATCHES)
    assert {(r[0], r[1]) for r in after} >= {(1, 98), (13, 24), (98, None), (2, None)}
    job(*match)
    assert content(lake, RETURN_TRIP_MATCHES) == after
    code, line, _ = job("--match", "nearest", "--incremental")
    assert code == 2
    assert "match first, how left; this run asks for" in line["error"]


@pytest.mark.slow
def test_what_is_not_on_record_any_more_is_joined_whole(
    spark: SparkSession, lake: Lake, job: Job
) -> None:
    lake.append(TRIPS, silver_trips(spark, day(0)))
    job()
    lake.set_properties(RETURN_TRIPS, {UP_TO: "another-table@0"})
    code, line, err = job("--incremental")
    assert (code, line["rows"]["outbound_read"]) == (0, 4)
    assert "is not the table any more that gold.return_trips was made from" in err
    lake.set_properties(TRIPS, {"delta.enableChangeDataFeed": "false"})
    lake.append(TRIPS, silver_trips(spark, day(1)))
    code, line, err = job("--incremental")
    assert (code, line["rows"]["outbound_read"]) == (0, 8)
    assert "is not on record any more" in err


@pytest.mark.slow
def test_a_mark_is_not_set_over_what_another_run_wrote(
    spark: SparkSession, lake: Lake, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(TRIPS, silver_trips(spark, day(0)))
    finish = jobs.return_trips._finish_pairs

    def meanwhile(*args: Any) -> dict[str, Any]:
        lake.set_properties(RETURN_TRIPS, {"delta.appendOnly": "false"})
        return finish(*args)

    monkeypatch.setattr(jobs.return_trips, "_finish_pairs", meanwhile)
    code, _, err = job()
    assert (code, "another run wrote to gold.return_trips too" in err) == (0, True)
    assert UP_TO not in lake.properties(RETURN_TRIPS)


@pytest.mark.slow
def test_pairs_that_a_run_on_earlier_trips_took_away_come_back(
    spark: SparkSession, lake: Lake, job: Job
) -> None:
    lake.append(TRIPS, silver_trips(spark, [*day(0), *day(1)]))
    earlier = f"{lake.identity(TRIPS)[0]}@{lake.version(TRIPS)}"
    job()
    old = lake.read(RETURN_TRIPS).localCheckpoint()
    lake.append(TRIPS, silver_trips(spark, [back(98, 0, 1)]))
    assert job("--incremental")[0] == 0
    after = tables(lake)
    assert (1, 98) in pairs(lake)
    # One that had begun before the last trip came writes after all others.
    lake.replace(RETURN_TRIPS, old, "true", note=earlier)
    assert (1, 98) not in pairs(lake)
    assert job("--incremental")[0] == 0
    assert tables(lake) == after
    version = lake.version(RETURN_TRIPS)
    assert job("--incremental")[0] == 0
    assert lake.version(RETURN_TRIPS) == version


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--incremental", "--start", "2015-12-01"], "leave out --start and --end"),
        (["--how", "left"], "--how left needs --match first or --match nearest"),
    ],
)
def test_arguments_that_do_not_go_together(job: Job, argv: list[str], message: str) -> None:
    code, line, _ = job(*argv)
    assert (code, message in line["error"]) == (2, True)

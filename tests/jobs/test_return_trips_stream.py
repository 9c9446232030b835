"""The stream's job: what it finds as trips arrive, what it forgets, drops and refuses."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import jobs.return_trips_stream
from jobs.lake import Lake
from jobs.return_trips_stream import STREAM
from pipelines.trips.return_trips import find_return_trips
from schemas import RETURN_TRIPS_LIVE, RUNS, TRIPS
from tests.job_processes import content
from tests.job_runs import Job, job_on
from tests.made_trips import MIDNIGHT, Trip, north_m, silver_trips, us

MINUTE = 60 * 10**6
HOUR = 60 * MINUTE
NOON = us(MIDNIGHT) + 12 * HOUR
HOME, WORK = (40.75, -73.99), (40.70, -74.01)

# OUT reaches work at 12:20. BACK leaves there 40 minutes later and LATER after 60 minutes, LATER to
# a door 120 m from home.
OUT = Trip(1, NOON, NOON + 20 * MINUTE, *HOME, *WORK)
BACK = Trip(2, NOON + HOUR, NOON + 80 * MINUTE, *WORK, *HOME)
LATER = Trip(3, NOON + 80 * MINUTE, NOON + 100 * MINUTE, *WORK, HOME[0] + north_m(120), HOME[1])


@pytest.fixture
def job(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(lake, jobs.return_trips_stream.main, capsys, "--once", "--partitions", "1")


def arrive(lake: Lake, *commits: Sequence[Trip]) -> None:
    for trips in commits:
        lake.append(TRIPS, silver_trips(lake.spark, trips))


def pairs(lake: Lake) -> list[tuple[int, int]]:
    """All pairs, so that a pair that landed twice is there twice."""
    return sorted((r[0], r[1]) for r in lake.read(RETURN_TRIPS_LIVE).collect())


def checkpoint(lake: Lake) -> Path:
    return Path(lake.root, ".checkpoints", "return_trips_live")


def state(lake: Lake, side: str) -> int:
    """Rows that the checkpoint holds of one side of the join."""
    at = checkpoint(lake) / lake.properties(RETURN_TRIPS_LIVE)[STREAM]
    reader = lake.spark.read.format("statestore").option("joinSide", side)
    return reader.load(str(at)).count()


@pytest.mark.slow
def test_pairs_are_found_as_trips_arrive(lake: Lake, job: Job) -> None:
    arrive(lake, [OUT], [BACK, LATER])
    code, line, err = job("--max-files", "1")
    assert code == 0
    nothing = dict.fromkeys(("too_long", "in_future", "late_rows"), 0)
    assert line["rows"] == {"trips_read": 3, "pairs_written": 2, **nothing}
    assert re.search(r"batch 0: 1 trips, 0 pairs, watermark -, state \d+ rows, .* s\n", err)
    assert re.search(r"batch 1: 2 trips, 2 pairs, watermark 20.*Z, state \d+ rows, .* s\n", err)
    assert line["tables_in"] == {"silver.trips": lake.version(TRIPS)}
    # LATER ended at 18:40 UTC, the lateness is an hour.
    assert line["watermark"] == "2015-12-01T17:40:00.000Z"
    found = {(r[0], r[1]): tuple(r)[3:] for r in lake.read(RETURN_TRIPS_LIVE).collect()}
    assert found[1, 2] == (2400.0, 0.0, 0.0, 50)
    assert found[1, 3][0::3] == (3600.0, 150)
    assert found[1, 3][2] == pytest.approx(120, abs=1e-6)


@pytest.mark.slow
def test_the_next_run_goes_on_where_the_last_one_ended(lake: Lake, job: Job) -> None:
    arrive(lake, [OUT])
    assert job()[1]["rows"]["pairs_written"] == 0
    arrive(lake, [BACK, LATER])
    assert job()[1]["rows"]["pairs_written"] == 2
    code, line, _ = job()
    assert (code, line["rows"]["trips_read"], line["tables_in"]) == (0, 0, {})
    assert pairs(lake) == [(1, 2), (1, 3)]
    ended = lake.read(RUNS).where("event = 'end'").collect()
    assert [r["outcome"] for r in ended] == ["done"] * 3


@pytest.mark.slow
def test_commits_out_of_order_give_the_batch_answer(lake: Lake, job: Job) -> None:
    dice = random.Random(20151201)
    trips = []
    for i in range(240):
        there, back = (HOME, WORK) if dice.random() < 0.5 else (WORK, HOME)
        start, off = NOON + dice.randrange(20 * HOUR), north_m(dice.choice((0, 40, 90, 170)))
        end = start + dice.randrange(2 * HOUR)
        trips.append(Trip(i, start, end, there[0] + off, there[1], back[0], back[1]))
    # A commit every 3 hours brings what has ended, but some trips come up to 50 minutes late.
    came = {t: (t.dropoff_us + dice.randrange(50 * MINUTE)) // (3 * HOUR) for t in trips}
    arrive(lake, *([t for t in trips if came[t] == n] for n in sorted(set(came.values()))))
    code, line, _ = job("--max-files", "1")
    batch = find_return_trips(lake.read(TRIPS))
    expected = sorted(map(tuple, batch.collect()), key=repr)
    assert (code, line["rows"]["late_rows"], line["rows"]["trips_read"]) == (0, 0, len(trips))
    assert line["batches"] >= len(set(came.values()))
    assert len(expected) > 1000
    assert content(lake, RETURN_TRIPS_LIVE) == expected


@pytest.mark.slow
def test_state_is_given_up_as_the_watermark_passes(lake: Lake, job: Job) -> None:
    rules = ("--window", "1h", "--max-duration", "1h", "--lateness", "15m", "--max-files", "1")
    # Ten trips end in each of 6 hours, at 12:00, 12:06 and so on.
    trips = [
        Trip(i, NOON + (6 * i - 5) * MINUTE, NOON + 6 * i * MINUTE, *HOME, *WORK) for i in range(60)
    ]
    arrive(lake, *(trips[n : n + 10] for n in range(0, 60, 10)))
    code, line, err = job(*rules)
    # The last trip ended at 17:54, so the watermark is 17:39. Outbound trips are kept where they
    # ended after that less window and longest duration, 15:39: from 15:42 on, the 37th and later.
    assert (code, line["watermark"]) == (0, "2015-12-01T22:39:00.000Z")
    assert state(lake, "left") == 60 - 37
    # Returns are kept where they ended after the watermark itself: 17:42, 17:48 and 17:54.
    copies = round(line["state"]["rows_per_trip"] - 1)
    assert line["state"]["rows_per_trip"] == 1 + copies
    assert state(lake, "right") == 3 * copies
    assert line["state"]["rows"] == 60 - 37 + 3 * copies
    # The most there ever was: two hours and 15 minutes of trips and the batch of an hour with it,
    # and the returns of two batches.
    after = [int(n) for n in re.findall(r"state (\d+) rows", err)]
    assert line["state"]["most_rows"] == max(after) <= 33 + 20 * copies
    assert max(after) > line["state"]["rows"]


@pytest.mark.slow
def test_bounds_are_strict_to_the_microsecond_whatever_the_watermark(lake: Lake, job: Job) -> None:
    rules = ("--window", "1h", "--max-duration", "1h", "--lateness", "1s", "--radii-m", "50")
    out = Trip(1, NOON - MINUTE, NOON, *HOME, *WORK)
    # The last pickup, and the longest duration, with which a trip is a return of OUT.
    last = Trip(2, NOON + HOUR - 1, NOON + 2 * HOUR - 2, *WORK, *HOME)
    # Moves the watermark to the last millisecond before LAST ended.
    far = Trip(3, NOON + 2 * HOUR, NOON + 2 * HOUR - 2000 + 10**6, 0.0, 0.0, 1.0, 1.0)
    arrive(lake, [out, far])
    assert job(*rules)[1]["watermark"] == "2015-12-01T18:59:59.998Z"
    too_late = replace(last, trip_id=4, pickup_us=last.pickup_us + 1)
    arrive(lake, [last, too_late])
    code, line, _ = job(*rules)
    assert (code, line["rows"]["late_rows"]) == (0, 0)
    assert pairs(lake) == [(1, 2)]


@pytest.mark.slow
def test_late_and_too_long_trips_are_left_out_and_counted(lake: Lake, job: Job) -> None:
    long = replace(BACK, trip_id=5, dropoff_us=NOON + 3 * HOUR)
    # Ends the next day, elsewhere, and so moves the watermark beyond BACK.
    next_day = Trip(6, NOON + 24 * HOUR, NOON + 25 * HOUR, 0.0, 0.0, 1.0, 1.0)
    far = us(datetime(2341, 1, 1, tzinfo=UTC))
    arrive(lake, [OUT, long, next_day, replace(OUT, trip_id=7, pickup_us=far, dropoff_us=far + 1)])
    code, line, _ = job("--max-duration", "2h")
    assert (code, line["rows"]["too_long"], line["rows"]["in_future"]) == (0, 1, 1)
    assert line["rows"]["late_rows"] == 0
    arrive(lake, [BACK])
    code, line, _ = job("--max-duration", "2h")
    assert (code, line["rows"]["trips_read"]) == (0, 1)
    assert line["lateness_needed_h"] == 24  # BACK ends 23 hours and 40 minutes before next_day
    # One row as outbound trip, and as return one for each key.
    assert (code, line["rows"]["trips_read"]) == (0, 1)
    assert line["rows"]["late_rows"] == line["state"]["rows_per_trip"] > 1
    assert pairs(lake) == []


@pytest.mark.slow
def test_what_does_not_belong_together_is_refused_until_again(lake: Lake, job: Job) -> None:
    arrive(lake, [OUT, BACK, LATER])
    assert job()[0] == 0
    code, line, _ = job("--radii-m", "75", "--lateness", "2h")
    assert code == 2
    assert "radii 50,100,150,200 m, window 28800 s" in line["error"]
    assert (
        "radii 75 m, window 28800 s, longest return trip 86400 s, lateness 7200 s"
        in (line["error"])
    )
    assert "run with --again" in line["error"]
    code, line, _ = job("--radii-m", "75", "--again")
    assert (code, line["rows"]["pairs_written"], pairs(lake)) == (0, 1, [(1, 2)])
    assert len(list(checkpoint(lake).iterdir())) == 1
    # A checkpoint without its table, and a table without its checkpoint.
    table, away = Path(lake.path(RETURN_TRIPS_LIVE)), Path(lake.root, "away")
    table.rename(away)
    code, line, _ = job("--radii-m", "75")
    assert (code, "is gone from" in line["error"], "--again" in line["error"]) == (2, True, True)
    away.rename(table)
    checkpoint(lake).rename(away)
    code, line, _ = job("--radii-m", "75")
    assert (code, "their checkpoint" in line["error"], "--again" in line["error"]) == (
        *(2, True, True),
    )
    assert job("--radii-m", "75", "--again")[0] == 0
    assert pairs(lake) == [(1, 2)]


@pytest.mark.slow
def test_trips_rewritten_under_the_stream_end_it_with_the_way_out(lake: Lake, job: Job) -> None:
    arrive(lake, [OUT, BACK])
    assert job()[0] == 0
    rewritten = silver_trips(lake.spark, [OUT, replace(LATER, trip_id=2)])
    lake.replace(TRIPS, rewritten, "true")
    code, line, err = job()
    assert code == 2
    assert "silver.trips was rewritten where the stream had read it" in line["error"]
    assert "--again" in line["error"]
    assert "Traceback" not in err
    assert pairs(lake) == [(1, 2)]
    assert job("--again")[0] == 0
    assert [r["radius_m"] for r in lake.read(RETURN_TRIPS_LIVE).collect()] == [150]


def test_one_stream_at_a_time(lake: Lake, job: Job) -> None:
    arrive(lake, [OUT])
    with lake.folder.only_writer(RETURN_TRIPS_LIVE):
        code, line, _ = job()
    assert (code, "another run is writing" in line["error"]) == (2, True)
    assert not lake.exists(RETURN_TRIPS_LIVE)


def test_a_lake_without_trips_exits_2_and_says_what_to_run(job: Job) -> None:
    code, line, _ = job()
    assert code == 2
    assert "no table silver.trips" in line["error"]

"""The stream killed or ended anywhere and run again: each pair once, as if nothing had been."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lake import Lake
from jobs.return_trips_stream import main
from jobs.run import EXIT_DONE
from pipelines.trips.return_trips import find_return_trips
from schemas import RETURN_TRIPS_LIVE, RUNS, TRIPS
from tests.job_processes import JobProcess, content, start_job
from tests.made_trips import as_silver, commuters, silver_trips
from tests.real_trips import PAIRS_OF_REAL_DAY, TRIPS_OF_REAL_DAY, trips_of_real_day

COMMITS = 6
BATCHES = ("--max-files", "1", "--partitions", "1")


@pytest.fixture
def lake_of_trips(lake: Lake) -> Lake:
    """Twelve hours of commuters, a commit every 2 hours."""
    trips = commuters(40 * COMMITS)
    for first in range(0, len(trips), 40):
        lake.append(TRIPS, silver_trips(lake.spark, trips[first : first + 40]))
    return lake


def expected(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted(map(tuple, find_return_trips(lake.read(TRIPS)).collect()), key=repr)


def count_and_hash(rows: DataFrame) -> tuple[int, int]:
    (row,) = rows.agg(F.count(F.lit(1)), F.bit_xor(F.xxhash64("*"))).collect()
    return row[0], row[1]


def finish(lake: Lake) -> list[tuple[Any, ...]]:
    assert main(["--once", *BATCHES, "--lake", lake.root]) == EXIT_DONE
    return content(lake, RETURN_TRIPS_LIVE)


def start(lake: Lake, log: Path, *arguments: str) -> JobProcess:
    return start_job("return_trips_stream", "--lake", lake.root, *BATCHES, *arguments, log=log)


@pytest.mark.slow
def test_killed_in_the_middle(lake_of_trips: Lake, tmp_path: Path) -> None:
    job = start(lake_of_trips, tmp_path / "log", "--once")
    assert job.kill_after("batch 2:", delay_s=0.5)
    landed = content(lake_of_trips, RETURN_TRIPS_LIVE)
    assert landed
    every = expected(lake_of_trips)
    assert len(landed) < len(every)
    assert finish(lake_of_trips) == every


@pytest.mark.faults
def test_interrupted_it_ends_cleanly_and_the_next_run_goes_on(
    lake_of_trips: Lake, tmp_path: Path
) -> None:
    job = start(lake_of_trips, tmp_path / "log", "--every", "1s")
    job.wait_for("batch 1:")
    job.interrupt()
    code, line = job.result()
    assert (code, line["outcome"]) == (0, "done")
    assert line["batches"] >= 2
    assert line["rows"]["trips_read"] >= 80
    assert "Traceback" not in (tmp_path / "log").read_text()
    (end,) = lake_of_trips.read(RUNS).where("event = 'end'").collect()
    assert end["outcome"] == "done"
    assert finish(lake_of_trips) == expected(lake_of_trips)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(lake_of_trips: Lake, tmp_path: Path) -> None:
    every = expected(lake_of_trips)
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    for i in range(3):
        delay_s = dice.uniform(0, 6)
        print(f"seed {seed}, kill {i}: {delay_s:.2f} s after the stream began")
        job = start(lake_of_trips, tmp_path / f"log{i}", "--once")
        job.kill_after("stream ...", delay_s)
        landed = content(lake_of_trips, RETURN_TRIPS_LIVE)
        assert len(set(landed)) == len(landed)
        assert set(landed) <= set(every)
    assert finish(lake_of_trips) == every


def replayed(
    lake: Lake, shared_data: Path, one_in: int, hours: int, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """The JSON line of the job after it read one in so many trips of the real day.

    A batch holds what ended in so many hours; the pairs are those of the batch job.
    """
    trips = trips_of_real_day(lake.spark, shared_data)
    part = trips.where(F.pmod(F.xxhash64("trip_id"), F.lit(one_in)) == 0)
    day = as_silver(part).localCheckpoint()
    for first in range(0, 24, hours):
        ended = F.hour("dropoff_at").between(first, first + hours - 1)
        lake.append(TRIPS, day.where(ended).coalesce(1))
    assert main(["--once", "--max-files", "1", "--lake", lake.root]) == EXIT_DONE
    line: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["rows"]["late_rows"], line["rows"]["too_long"]) == (0, 0)
    batch = find_return_trips(lake.read(TRIPS), method="native")
    assert count_and_hash(lake.read(RETURN_TRIPS_LIVE)) == count_and_hash(batch)
    return line


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("generated_code")
def test_a_quarter_of_the_real_day_hour_by_hour_with_bounded_state(
    lake: Lake, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole day takes ten minutes in this session: docs/architecture.md tells what it gave."""
    line = replayed(lake, shared_data, one_in=4, hours=1, capsys=capsys)
    trips = line["rows"]["trips_read"]
    assert trips == pytest.approx(TRIPS_OF_REAL_DAY / 4, rel=0.02)
    assert line["rows"]["pairs_written"] == pytest.approx(PAIRS_OF_REAL_DAY[200] / 16, rel=0.1)
    # A row for each trip of 33 hours, and 17 for each of the two busiest hours in a row.
    assert line["state"]["most_rows"] < trips + 17 * 2 * 27_000 / 4

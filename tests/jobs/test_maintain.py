"""Housekeeping: nothing without --apply, rows as before with it, never below the retention."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jobs.lake import Lake
from jobs.maintain import main
from schemas import RETURN_TRIPS_LIVE, TRIPS
from tests.job_processes import content
from tests.job_runs import Job, job_on
from tests.made_trips import commuters, silver_trips


@pytest.fixture
def job(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    for n in range(3):
        lake.append(TRIPS, silver_trips(lake.spark, commuters(20)[n::3]))
    return job_on(lake, main, capsys)


@pytest.mark.slow
def test_small_files_become_one_and_rows_stay(job: Job, lake: Lake) -> None:
    before, version = content(lake, TRIPS), lake.version(TRIPS)
    code, line, _ = job()
    assert (code, line["applied"], lake.version(TRIPS)) == (0, False, version)
    assert lake.size(TRIPS)[0] == 3
    code, line, _ = job("--apply", "silver.trips")
    assert (code, line["applied"]) == (0, True)
    assert lake.size(TRIPS)[0] == 1
    assert content(lake, TRIPS) == before
    # The three small files are a moment old, so a version that needs them can still be read.
    assert line["files_to_remove"] == {"silver.trips": 0}
    assert lake.read(TRIPS, version).count() == 20


@pytest.mark.slow
def test_what_a_killed_run_left_goes_after_the_retention(job: Job, lake: Lake) -> None:
    new, old = (Path(lake.path(TRIPS), f"part-{age}.parquet") for age in ("new", "old"))
    for left, age_days in ((new, 6), (old, 8)):
        left.write_bytes(b"PAR1")
        then = time.time() - age_days * 86400
        os.utime(left, (then, then))
    for arguments, told, is_there in (
        ([], 1, True),
        (["--apply"], 1, False),
        (["--apply"], 0, False),
    ):
        code, line, _ = job("silver.trips", *arguments)
        assert (code, line["files_to_remove"]) == (0, {"silver.trips": told})
        assert (new.exists(), old.exists()) == (True, is_there)


def test_what_a_stream_is_writing_is_left(job: Job, lake: Lake) -> None:
    lake.create(RETURN_TRIPS_LIVE)
    with lake.folder.only_writer(RETURN_TRIPS_LIVE):
        code, line, _ = job("--apply", RETURN_TRIPS_LIVE.name)
        assert (code, line["left"]) == (0, [RETURN_TRIPS_LIVE.name])
    assert lake.version(RETURN_TRIPS_LIVE) == 0
    code, line, _ = job("--apply", RETURN_TRIPS_LIVE.name)
    assert (code, line["left"]) == (0, [])
    assert lake.version(RETURN_TRIPS_LIVE) != 0  # VACUUM says in the log that it was there


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--retention", "1h"], "less than 7 days"),
        (["silver.trip"], "no table silver.trip: there are bronze.deliveries"),
        (["gold.return_trips"], "gold.return_trips is not in"),
    ],
)
def test_wrong_arguments(job: Job, arguments: list[str], said: str) -> None:
    code, line, _ = job(*arguments)
    assert (code, line["outcome"]) == (2, "usage")
    assert said in line["error"]

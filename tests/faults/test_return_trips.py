"""The return-trip job killed with SIGKILL and run again: the tables of an undisturbed run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs.lake import Lake
from jobs.return_trips import main
from jobs.run import EXIT_DONE
from schemas import RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS
from tests.job_processes import content, start_job
from tests.made_trips import commuters, silver_trips

STEPS = (
    "estimate took",
    "join and write ...",
    "join and write took",
    "statistics ...",
    "statistics took",
)


@pytest.fixture
def lake_of_trips(lake: Lake) -> Lake:
    lake.append(TRIPS, silver_trips(lake.spark, commuters(400)))
    return lake


def tables(lake: Lake) -> list[list[object]]:
    return [list(content(lake, t)) for t in (RETURN_TRIPS, RETURN_TRIP_STATS)]


def run(lake: Lake) -> list[list[object]]:
    assert main(["--lake", lake.root]) == EXIT_DONE
    return tables(lake)


@pytest.mark.slow
def test_killed_between_pairs_and_statistics(lake_of_trips: Lake, tmp_path: Path) -> None:
    job = start_job("return_trips", "--lake", lake_of_trips.root, log=tmp_path / "log")
    assert job.kill_after("join and write took")
    pairs, hours = tables(lake_of_trips)
    assert pairs
    assert not hours
    after = run(lake_of_trips)
    assert after[0] == pairs
    assert run(lake_of_trips) == after  # undisturbed, on the same trips


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(lake_of_trips: Lake, tmp_path: Path) -> None:
    expected = run(lake_of_trips)
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    for i in range(2):
        step, delay_s = dice.choice(STEPS), dice.uniform(0, 1.5)
        print(f"seed {seed}, kill {i}: {delay_s:.2f} s after {step!r}")
        # Each time under other rules, so that what is killed is a rewrite of the whole table.
        job = start_job(
            *("return_trips", "--lake", lake_of_trips.root, "--radii-m", "75"),
            log=tmp_path / f"log{i}",
        )
        job.kill_after(step, delay_s)
        assert run(lake_of_trips) == expected

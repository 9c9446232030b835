"""Ingestion killed with SIGKILL, and ingestions that race: the tables of an undisturbed run.

The files are the project's own, small enough that a run is mostly commits, where kills hurt.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs.ingest_trips import main
from jobs.lake import Lake
from jobs.run import EXIT_DONE, EXIT_FAILED
from schemas import DELIVERIES, RUNS, TRIPS, TRIPS_RAW, TRIPS_REJECTED
from tests.job_processes import content, start_job

HEADER = (
    "pickup_datetime,dropoff_datetime,pickup_longitude,pickup_latitude,dropoff_longitude,"
    "dropoff_latitude,passenger_count"
)
TABLES = (TRIPS_RAW, TRIPS_REJECTED, TRIPS, DELIVERIES)
STEPS = (
    "check headers ...",
    "write bronze.trips_raw ...",
    "write bronze.trips_raw took",
    "write silver.trips_rejected ...",
    "write silver.trips_rejected took",
    "write silver.trips ...",
    "write silver.trips took",
    "check and mark as done ...",
    "check and mark as done took",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return made_file(tmp_path / "a.csv", 2000)


def made_file(path: Path, rows: int) -> Path:
    """`rows` rows of which every tenth has no pickup."""
    lines = [
        f"2015-12-01 08:{i % 60:02}:00,2015-12-01 09:00:00,{-73.98 if i % 10 else 0},40.7{i:06},"
        f"-73.97,40.76,{i % 6}"
        for i in range(rows)
    ]
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


def tables(lake: Lake) -> dict[str, list[object]]:
    # The run's name and the paths are the only thing in which two undisturbed runs differ.
    return {t.name: list(content(lake, t, ("run_id", "paths"))) for t in TABLES}


def undisturbed(lake: Lake, root: Path, *files: Path) -> dict[str, list[object]]:
    other = Lake(lake.spark, str(root / "undisturbed"))
    assert main([*map(str, files), "--lake", other.root]) == EXIT_DONE
    return tables(other)


@pytest.mark.slow
def test_killed_between_commits_and_run_again(lake: Lake, tmp_path: Path, file: Path) -> None:
    job = start_job(
        "ingest_trips", file, "--lake", lake.root, "--run-id", "killed", log=tmp_path / "log"
    )
    assert job.kill_after("write silver.trips_rejected took")
    assert content(lake, TRIPS_RAW)
    assert not content(lake, DELIVERIES)
    assert main([str(file), "--lake", lake.root, "--run-id", "again"]) == EXIT_DONE
    assert tables(lake) == undisturbed(lake, tmp_path, file)
    events = [(r["run_id"], r["event"]) for r in lake.read(RUNS).orderBy("at").collect()]
    assert events == [("killed", "start"), ("again", "start"), ("again", "end")]


@pytest.mark.faults
def test_a_full_disk_is_one_line_and_the_next_run_mends_it(lake: Lake, tmp_path: Path) -> None:
    # Digits that compress badly: the raw rows are more than what a file may have here, which is
    # enough for the libraries that Java unpacks.
    dice = random.Random(1)
    lines = [
        "2015-12-01 08:00:00,2015-12-01 09:00:00,"
        + ",".join(f"{x}{dice.randrange(10**12):012}" for x in ("-73.9", "40.7", "-73.9", "40.7"))
        + ",1"
        for _ in range(30_000)
    ]
    file = tmp_path / "big.csv"
    file.write_text("\n".join((HEADER, *lines)) + "\n")
    job = start_job(
        "ingest_trips", file, "--lake", lake.root, log=tmp_path / "log", largest_file_bytes=400_000
    )
    code, line = job.result()
    said = job.log.read_text()
    assert (code, line["outcome"]) == (EXIT_FAILED, "failed")
    assert "File too large" in line["error"]
    assert "Traceback" not in said
    assert "\tat org.apache" not in said
    assert not content(lake, DELIVERIES)
    assert main([str(file), "--lake", lake.root]) == EXIT_DONE
    (delivery,) = lake.read(DELIVERIES).collect()
    assert (delivery["rows_read"], delivery["rows_rejected"]) == (30_000, 0)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(lake: Lake, tmp_path: Path, file: Path) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    expected = undisturbed(lake, tmp_path, file)
    for i in range(2):
        step, delay_s = dice.choice(STEPS), dice.uniform(0, 1.5)
        print(f"seed {seed}, kill {i}: {delay_s:.2f} s after {step!r}")
        again = Lake(lake.spark, f"{lake.root}{i}")
        job = start_job("ingest_trips", file, "--lake", again.root, log=tmp_path / f"log{i}")
        lived = job.kill_after(step, delay_s)
        if i % 2 and lived:  # killed twice in a row
            job = start_job("ingest_trips", file, "--lake", again.root, log=tmp_path / f"log{i}b")
            job.kill_after(dice.choice(STEPS), dice.uniform(0, 1.0))
        assert main([str(file), "--lake", again.root]) == EXIT_DONE
        assert tables(again) == expected


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_files_at_once(lake: Lake, tmp_path: Path, file: Path) -> None:
    # The same file twice at once is in test_daily_pipeline.py.
    other = made_file(tmp_path / "b.csv", 1500)
    jobs = [
        start_job("ingest_trips", path, "--lake", lake.root, log=tmp_path / f"log{i}")
        for i, path in enumerate((file, other))
    ]
    results = [job.result() for job in jobs]
    assert [code for code, _ in results] == [EXIT_DONE] * 2, [said for _, said in results]
    assert tables(lake) == undisturbed(lake, tmp_path, file, other)
    assert lake.read(RUNS).count() == 4

"""What status tells of runs and tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs.lake import Lake
from jobs.return_trips import main as return_trips
from jobs.status import main
from schemas import RETURN_TRIPS_LIVE, RUNS, TRIPS
from schemas.frames import frame_of
from tests.job_runs import Job, job_on
from tests.made_trips import commuters, silver_trips


@pytest.fixture
def job(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(lake, main, capsys)


def started(lake: Lake, run_id: str, ago: timedelta, job: str = "ingest_trips") -> None:
    """The start row of a run that has no end."""
    at = datetime.now(UTC) - ago
    row = (run_id, job, "start", at, "running", "{}", None, None, None, None, None, None)
    lake.append(RUNS, frame_of(lake.spark, [row], RUNS.struct))


@pytest.mark.slow
def test_a_start_without_an_end_is_lost_after_six_hours(job: Job, lake: Lake) -> None:
    started(lake, "killed", timedelta(hours=7))
    started(lake, "at work", timedelta(minutes=1))
    code, line, _ = job()
    assert (code, line["lost"], line["stale"]) == (0, ["killed"], [])


@pytest.mark.slow
def test_a_stream_is_not_lost_while_it_holds_its_table(job: Job, lake: Lake) -> None:
    started(lake, "killed", timedelta(hours=9), "return_trips_stream")
    started(lake, "at work", timedelta(hours=8), "return_trips_stream")
    started(lake, "no stream", timedelta(hours=7))
    with lake.folder.only_writer(RETURN_TRIPS_LIVE):
        assert job()[1]["lost"] == ["no stream", "killed"]
    assert job()[1]["lost"] == ["no stream", "at work", "killed"]


@pytest.mark.slow
def test_tables_made_before_the_trips_changed_are_stale(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    for trips in (commuters(40)[:20], commuters(40)[20:]):  # two files, to compact
        lake.append(TRIPS, silver_trips(lake.spark, trips))
    assert return_trips(["--lake", lake.root]) == 0
    job = job_on(lake, main, capsys)
    assert job()[1]["stale"] == []
    lake.optimize(TRIPS)
    assert job()[1]["stale"] == []  # the trips are the same
    lake.append(TRIPS, silver_trips(lake.spark, commuters(41)[40:]))
    capsys.readouterr()
    assert main(["--lake", lake.root]) == 0
    out = capsys.readouterr().out
    assert "return_trips         done" in out
    newest = datetime.fromtimestamp(max(t.dropoff_us for t in commuters(41)) / 1e6, UTC)
    assert f"{newest:%Y-%m-%d %H:%M}" in out
    assert "silver.trips has changed once since" in out
    assert '"stale": ["gold.return_trips", "gold.return_trip_stats"]' in out


def test_wrong_number(job: Job) -> None:
    assert job("--last", "0")[0] == 2

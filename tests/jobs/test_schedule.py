"""The schedule: what starts which run, and that a step is the job that cron would start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import dagster as dg
import pytest

from jobs.schedule import landing as landing_module
from jobs.schedule import launch
from jobs.schedule.assets import LandedFile, check_result, ingest, key, return_trips
from jobs.schedule.definitions import definitions
from jobs.schedule.figures import landed_figures
from jobs.schedule.landing import days_that_came, landed_files, partitions_of
from pipelines.trips.sources import DATA_ENDINGS
from schemas import (
    DELIVERIES,
    FIGURE_CAPTIONS,
    FIGURE_DELIVERIES,
    FIGURE_GROUPS,
    FIGURE_IMAGES,
    FIGURE_PAIRS,
    FIGURE_QUESTIONS,
    FIGURES,
    IMAGE_CAPTIONS,
    IMAGE_CAPTIONS_REJECTED,
    QUESTIONS,
    RETURN_TRIP_STATS,
    RETURN_TRIPS,
    TRIPS,
    TRIPS_RAW,
    TRIPS_REJECTED,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
)
from tests.job_processes import ROOT

HEADER = (
    "pickup_datetime,dropoff_datetime,pickup_longitude,pickup_latitude,dropoff_longitude,"
    "dropoff_latitude,fare_amount,trip_distance"
)


def requests() -> list[dg.RunRequest | dg.SkipReason]:
    with dg.build_sensor_context() as context:
        found = landed_files(context)
        assert found is not None
        return list(found)


def land(folder: Path, name: str, *rows: str, seconds_ago: float = 60) -> Path:
    path = folder / name
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    then = time.time() - seconds_ago
    os.utime(path, (then, then))
    return path


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    monkeypatch.setenv("LANDING", str(folder))
    return folder


def test_each_table_is_an_asset_and_all_jobs_resolve() -> None:
    repository = definitions.get_repository_def()
    assets = set(repository.asset_graph.get_all_asset_keys())
    of_trips = (TRIPS_RAW, TRIPS, TRIPS_REJECTED, DELIVERIES, RETURN_TRIPS, RETURN_TRIP_STATS)
    of_figures = (
        *(FIGURES, QUESTIONS, FIGURE_DELIVERIES, FIGURE_CAPTIONS, FIGURE_IMAGES, FIGURE_QUESTIONS),
        *(FIGURE_PAIRS, FIGURE_GROUPS, IMAGE_CAPTIONS, IMAGE_CAPTIONS_REJECTED),
        *(VLM_EXAMPLES, VQA_EXAMPLES),
    )
    assert assets == {key(t) for t in (*of_trips, *of_figures)}
    jobs = {j.name for j in repository.get_all_jobs()}
    assert {"ingest_landed_file", "return_trips_of_a_day", "landed_figures_to_examples"} <= jobs


def test_a_run_for_each_delivery_of_figures_that_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> list[tuple[str, str]]:
        with dg.build_sensor_context() as context:
            found = list(landed_figures(context) or ())
        configs = [r.run_config["ops"]["ingest_figures"]["config"] for r in found]
        return [(c["format"], Path(c["path"]).name) for c in configs]

    monkeypatch.setenv("LANDING_FIGURES", str(tmp_path))
    old = time.time() - 60
    for name in ("webdataset/a.tar", "webdataset/.b.tar", "roco/c/captions.txt", "other/d.tar"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        for changed in (path, *path.parents[: len(Path(name).parts) - 1]):
            os.utime(changed, (old, old))
    assert asked() == [("roco", "c"), ("webdataset", "a.tar")]
    for link in ("webdataset/0.tar", "roco/c/0.jpg"):
        (tmp_path / link).symlink_to("gone")
    os.utime(tmp_path / "roco" / "c", (old, old))
    assert asked() == [("roco", "c"), ("webdataset", "a.tar")]
    (tmp_path / "roco" / "c" / "licences.txt").write_bytes(b"still coming")
    assert asked() == [("webdataset", "a.tar")]


def test_a_run_for_each_file_that_has_settled(landing: Path) -> None:
    file = land(landing, "a.csv")
    land(landing, "arriving.csv", seconds_ago=0)
    land(landing, ".b.csv.part")
    land(landing, "_c.csv")
    land(landing, "notes.txt")
    for folder in (".partial", "2015/_temporary"):
        (landing / folder).mkdir(parents=True)
        land(landing / folder, "a.csv")
    (landing / "0.csv").symlink_to("gone.csv")
    (request,) = requests()
    assert isinstance(request, dg.RunRequest)
    assert request.run_config["ops"]["ingest"]["config"] == {"path": str(file)}
    land(landing, "a.csv", "another content")
    (again,) = requests()
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != request.run_key


def test_files_of_every_ending_that_is_ingested_are_seen(landing: Path) -> None:
    for ending in DATA_ENDINGS:
        land(landing, f"a{ending}")
    assert len(requests()) == len(DATA_ENDINGS)


def test_a_missing_folder_is_told(landing: Path) -> None:
    landing.rmdir()
    (skip,) = requests()
    assert isinstance(skip, dg.SkipReason)
    assert "LANDING" in str(skip.skip_message)


def test_days_of_a_file_and_their_neighbours_that_have_pairs() -> None:
    trips_by_day = {"2015-12-01": 1000, "2015-12-02": 900, "2015-12-03": 5, "2008-12-31": 900}
    days = ["2015-12-01", "2015-12-02"]
    assert partitions_of(trips_by_day, set()) == days
    done = {"2015-11-29", "2015-11-30", "2015-12-03", "2015-12-05"}
    assert partitions_of(trips_by_day, done) == ["2015-11-30", *days, "2015-12-03"]
    assert partitions_of({}, done) == []


def days_asked_for(
    instance: dg.DagsterInstance, cursor: str | None
) -> tuple[list[str | None], str | None]:
    """What the sensor asks for where it had left this cursor, and the one that it leaves."""
    repository = definitions.get_repository_def()
    context = dg.build_sensor_context(instance, cursor=cursor, repository_def=repository)
    told = days_that_came.evaluate_tick(context)
    return [r.partition_key for r in told.run_requests or []], told.cursor


def test_days_of_all_files_since_the_last_look_are_asked_for_and_none_to_come() -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    with dg.DagsterInstance.ephemeral() as instance:

        def ingested(days: dict[str, int]) -> None:
            shown = {"days": dg.MetadataValue.json(days)}
            instance.report_runless_asset_event(
                dg.AssetMaterialization(asset_key=key(TRIPS), metadata=shown)
            )

        ingested({"2015-12-01": 1000})
        ingested({"2015-12-02": 1000, tomorrow: 1000})
        days, cursor = days_asked_for(instance, None)
        assert days == ["2015-12-01", "2015-12-02"]
        ingested({"2015-12-04": 1000})
        days, cursor = days_asked_for(instance, cursor)
        assert days == ["2015-12-04"]
        assert days_asked_for(instance, cursor)[0] == []


def test_a_day_that_has_not_ended_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = {"2015-12-01"}
    monkeypatch.setattr(
        landing_module, "DAYS", SimpleNamespace(has_partition_key=ended.__contains__)
    )
    with dg.DagsterInstance.ephemeral() as instance:
        shown = {"days": dg.MetadataValue.json({"2015-12-01": 9, "2015-12-02": 9, "2015-12-03": 9})}
        came = dg.AssetMaterialization(asset_key=key(TRIPS), metadata=shown)
        instance.report_runless_asset_event(came)
        days, cursor = days_asked_for(instance, None)
        assert days == ["2015-12-01"]
        days, cursor = days_asked_for(instance, cursor)
        assert days == []
        ended.add("2015-12-02")
        days, cursor = days_asked_for(instance, cursor)
        assert days == ["2015-12-02"]
        ended.add("2015-12-03")
        days, cursor = days_asked_for(instance, cursor)
        assert days == ["2015-12-03"]
        assert days_asked_for(instance, cursor) == ([], cursor)


@pytest.mark.slow
def test_the_days_of_another_city() -> None:
    code = (
        "from jobs.schedule.assets import DAYS, LandedFile, _interval\n"
        "print(DAYS.timezone, *_interval('2013-06-30'))\n"
        "print(LandedFile(path='a.csv').arguments)"
    )
    mapping = "--mapping '/data/my city.toml' --box=41,-9,42,-8"
    env = {**os.environ, "TIMEZONE": "Europe/Lisbon", "INGEST_ARGUMENTS": mapping}
    said = subprocess.check_output([sys.executable, "-c", code], env=env, cwd=ROOT, text=True)
    days, arguments = said.splitlines()
    assert days.split()[0] == "Europe/Lisbon"
    assert days.split()[1:] == [
        *("--start", "2013-06-30", "--end", "2013-07-01", "--timezone", "Europe/Lisbon")
    ]
    assert arguments == "['--mapping', '/data/my city.toml', '--box=41,-9,42,-8']"


@pytest.mark.slow
def test_a_file_is_ingested_with_its_arguments(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, told = places / "spark-submit", places / "told"
    submit.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    submit.chmod(0o755)
    monkeypatch.setattr(launch, "_spark_submit", lambda: str(submit))
    file = LandedFile(path="/landing/a.csv", arguments=["--mapping", "porto.toml"])
    with dg.instance_for_test() as instance:
        config = dg.RunConfig({"ingest": file})
        assert dg.materialize([ingest], run_config=config, instance=instance).success
    ingested, checked = told.read_text().splitlines()
    assert f"ingest_trips.py /landing/a.csv --lake {places}/lake --mapping porto.toml" in ingested
    assert "check_quality.py silver.trips_rejected" in checked


@pytest.mark.parametrize(
    ("line", "passed", "severity"),
    [
        ({"outcome": "done", "quality": "passed"}, True, dg.AssetCheckSeverity.WARN),
        ({"outcome": "done", "quality": "warn"}, False, dg.AssetCheckSeverity.WARN),
        ({"outcome": "refused", "error": "bad"}, False, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_the_outcome_of_a_check(
    line: dict[str, str], passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    result = check_result(TRIPS, line)
    assert (result.passed, result.severity) == (passed, severity)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("QUALITY_DOCS", str(tmp_path / "quality"))
    return tmp_path


@pytest.mark.slow
def test_each_job_of_a_step_is_a_run_of_its_own(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, ids = places / "spark-submit", places / "ids"
    submit.write_text(f'#!/bin/sh\necho "$RUN_ID" >> {ids}\n')
    submit.chmod(0o755)
    monkeypatch.setattr(launch, "_spark_submit", lambda: str(submit))
    with dg.instance_for_test() as instance:
        result = dg.materialize([return_trips], partition_key="2015-12-01", instance=instance)
    assert ids.read_text().split() == [
        f"{result.run_id}-{what}-0"
        for what in (
            "return_trips",
            "check_quality-gold.return_trips",
            "check_quality-gold.return_trip_stats",
        )
    ]


def day_of_trips() -> list[str]:
    """To and fro all day, an hour each way."""
    ends = ("-73.98,40.75", "-73.97,40.76")
    return [
        f"2015-12-01 {hour:02}:{minute:02}:00,2015-12-01 {hour:02}:{minute + 9:02}:00,"
        f"{ends[hour % 2]},{ends[1 - hour % 2]},10,1.2"
        for hour in range(24)
        for minute in (0, 20, 40)
    ]


@pytest.mark.faults  # nothing is killed; six spark-submits, three minutes
def test_a_landed_file_becomes_checked_tables(places: Path, landing: Path) -> None:
    file = land(landing, "a.csv", *day_of_trips(), "broken")
    config = dg.RunConfig({"ingest": LandedFile(path=str(file))})
    with dg.instance_for_test() as instance:
        result = dg.materialize([ingest], run_config=config, instance=instance)
        assert result.success
        (trips,) = [
            m for m in result.asset_materializations_for_node("ingest") if m.asset_key == key(TRIPS)
        ]
        assert trips.metadata["days"].value == {"2015-12-01": 72}
        result = dg.materialize([return_trips], partition_key="2015-12-01", instance=instance)
        assert result.success
        checks = {c.asset_key: c for c in result.get_asset_check_evaluations()}
        assert {k for k, c in checks.items() if c.passed} == {
            key(RETURN_TRIPS),
            key(RETURN_TRIP_STATS),
        }
        pairs = result.asset_materializations_for_node("return_trips")[0]
        assert cast("int", pairs.metadata["rows/pairs_written"].value) > 0


@pytest.mark.faults
def test_a_refused_file_fails_with_its_reason_and_is_not_tried_again(
    places: Path, landing: Path
) -> None:
    file = landing / "zones.csv"
    file.write_text("PULocationID,DOLocationID\n1,2\n")
    config = dg.RunConfig({"ingest": LandedFile(path=str(file))})
    with dg.instance_for_test() as instance:
        result = dg.materialize(
            [ingest], run_config=config, instance=instance, raise_on_error=False
        )
        assert not result.success
        assert not result.retry_attempts_for_node("ingest")
        (failure,) = [e for e in result.all_events if e.is_step_failure]
        assert "exit code 3" in str(failure.step_failure_data.error)
    assert not (places / "lake" / "silver").exists()

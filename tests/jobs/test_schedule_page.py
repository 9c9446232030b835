"""`make schedule` as its user sees it: Dagster's page in Chromium, from a click to the checks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import SparkSession

from jobs import ingest_trips, make_trips
from jobs.lake import Lake
from schemas import RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS, Table
from tests.job_processes import ROOT, group_members
from tests.listening import listening
from tests.standalone import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]  # nothing is killed; minutes

DAY, BAD_DAY = "2015-12-01", "2015-12-02"
_STARTS_WITHIN_S = 180
_RUN_MS = 1_200_000


@dataclass(frozen=True)
class Schedule:
    """A running `make schedule` with everything that it keeps below `folder`."""

    url: str
    folder: Path
    lake: Lake
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        return self.folder.parent / "make.log"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium: that of the system, else Playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path)
        except api.Error as e:
            pytest.skip(f"no Chromium that starts: {str(e).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(60_000)
    opened = context.new_page()
    yield opened
    _photograph(opened, f"end of {request.node.name}")
    context.close()


@pytest.fixture(scope="module")
def lake_of_two_days(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two made days; into the second came, by another way, trips that no car could make."""
    folder = tmp_path_factory.mktemp("lake")
    made = ["--out", str(folder / "made"), "--days", "2", "--trips-per-day", "3000"]
    assert make_trips.main(made) == 0
    lake = Lake(spark, str(folder / "lake"))
    assert ingest_trips.main([str(folder / "made"), "--lake", lake.root]) == 0
    trips = f"delta.`{lake.path(TRIPS)}`"
    spark.sql(f"UPDATE {trips} SET distance_mi = 1000 WHERE day = '{BAD_DAY}'")
    return lake


@pytest.fixture(scope="module")
def schedule(
    chromium: Browser, lake_of_two_days: Lake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Schedule]:
    """The recipe of `make schedule`, run in a folder of its own."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    lake = lake_of_two_days
    work = tmp_path_factory.mktemp("work")
    (work / "jobs").symlink_to(ROOT / "jobs")
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_CONF_DIR": str(ROOT / "spark-conf"),
        "PORT": str(port),
        "LAKE": lake.root,
    }
    for name in ("LANDING", "QUALITY_DOCS", "RUN_ID", "PYSPARK_GATEWAY_PORT"):
        environment.pop(name, None)
    with (work / "make.log").open("wb") as log:
        process = subprocess.Popen(
            # Without the set-up before it: what runs the tests is set up.
            ["make", "-f", str(ROOT / "Makefile"), "-o", "setup", "SPARK=", "schedule"],
            cwd=work,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Schedule(f"http://127.0.0.1:{port}", work / "schedule", lake, process)
    try:
        _wait_for(started)
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(schedule: Schedule) -> None:
    give_up = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < give_up and schedule.process.poll() is None:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"{schedule.url}/server_info", timeout=5),
        ):
            return
        time.sleep(0.5)
    pytest.fail(f"Dagster's page did not come up\n{schedule.log.read_text()[-3000:]}")


def test_a_day_is_materialised_by_clicks_and_its_checks_are_seen(
    schedule: Schedule, page: Page
) -> None:
    _open(page, schedule, RETURN_TRIPS)
    page.get_by_text(RETURN_TRIPS.comment).wait_for()
    page.get_by_text("drop-off of the outbound trip [UTC]").wait_for()
    page.get_by_text(schedule.lake.path(RETURN_TRIPS)).wait_for()
    _materialise(page, schedule, DAY, "Success")
    for table in (RETURN_TRIPS, RETURN_TRIP_STATS):
        _open(page, schedule, table, "?view=checks")
        page.get_by_text(f"Everything that is expected of {table.name}").wait_for()
        page.get_by_text("Passed", exact=True).first.wait_for()
        shown = page.inner_text("body")
        assert re.search(r"quality\s+passed", shown), shown
        assert re.search(r"expectations\s+\d+", shown), shown
        assert str(schedule.folder / "quality" / f"{table.name}.html") in shown
        _photograph(page, f"checks of {table.name}")
    _open(page, schedule, RETURN_TRIPS)
    page.get_by_text("rows/pairs_written").first.wait_for()
    _photograph(page, RETURN_TRIPS.name)
    assert schedule.lake.read(RETURN_TRIPS).count() > 0


def test_what_a_gate_refused_is_seen_on_the_page_and_on_the_gates_own(
    schedule: Schedule, page: Page
) -> None:
    before = schedule.lake.version(RETURN_TRIPS)
    _open(page, schedule, RETURN_TRIPS)
    _materialise(page, schedule, BAD_DAY, "Failure")
    page.get_by_text("silver.trips is not as it must be").first.wait_for()
    _photograph(page, "a run that was refused")
    assert schedule.lake.version(RETURN_TRIPS) == before

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((schedule.folder / "quality" / "silver.trips.html").as_uri())
    assert page.locator("h1").inner_text() == "silver.trips: bad data, stopped here"
    first = page.locator("tbody tr").first.inner_text()
    assert "✗ error" in first
    assert "share_too_fast lies from 0 to" in first
    assert f"rows from {BAD_DAY} 00:00 and before 2015-12-03 00:00" in page.inner_text("p >> nth=0")
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
    _photograph(page, "the page of the gate")


def test_it_listens_on_this_machine_alone(schedule: Schedule) -> None:
    port = int(schedule.url.rsplit(":", 1)[1])
    found = listening(group_members(schedule.process.pid))
    assert port in found
    assert set(found.values()) == {"127.0.0.1"}, found


def _open(page: Page, schedule: Schedule, table: Table, view: str = "") -> None:
    page.goto(f"{schedule.url}/assets/{table.relative_path}{view}")


def _materialise(page: Page, schedule: Schedule, day: str, outcome: str) -> None:
    """From the page of a table of gold: launch a day, and wait on the page of its run."""
    page.get_by_role("button", name="Materialize").first.click()
    for warning in (
        "Additional assets will be materialized",  # pairs and statistics are made together
        "the upstream assets listed below have not been materialized yet",  # by Dagster, that is
    ):
        dialog = page.get_by_role("dialog").filter(has_text=warning)
        dialog.get_by_role("button", name="Confirm").click()
    page.get_by_text("Show all partitions").click()
    dialog = page.get_by_role("dialog")
    days = dialog.locator("input[type=text]")
    days.fill(day)
    days.press("Enter")
    dialog.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("View", exact=True).click()
    ended = page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
    ended.wait_for(timeout=_RUN_MS)
    assert ended.inner_text() == outcome, schedule.log.read_text()[-5000:]


def _photograph(page: Page, name: str) -> None:
    """Keep a picture in the folder SCREENSHOTS, for whoever wants to look."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

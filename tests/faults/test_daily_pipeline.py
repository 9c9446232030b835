"""Days of the whole pipeline with everything going wrong: the tables of days without trouble.

Each day's file is ingested, its trips pass the gate, its pairs are found and checked, as the
schedule would do it. On one of two lakes that happens among faults. The figures are printed.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import check_quality, ingest_trips, make_trips, return_trips
from jobs.lake import Lake
from jobs.run import EXIT_DONE, EXIT_FAILED, EXIT_REFUSED
from jobs.schedule.landing import partitions_of
from schemas import (
    DELIVERIES,
    RETURN_TRIP_STATS,
    RETURN_TRIPS,
    TRIPS,
    TRIPS_RAW,
    TRIPS_REJECTED,
)
from tests.job_processes import content, start_job
from tests.standalone import ROOT, Cluster

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

FIRST = date(2015, 12, 1)
TRIPS_A_DAY = 1500
TABLES = (TRIPS_RAW, TRIPS_REJECTED, TRIPS, DELIVERIES, RETURN_TRIPS, RETURN_TRIP_STATS)

Main = Callable[[Sequence[str]], int]


class Pipeline:
    """The pipeline on a lake: what the schedule starts, and a count of what happened to it."""

    def __init__(self, lake: Lake, docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.lake = lake
        self.docs = docs
        self.capsys = capsys
        self.runs = 0
        self.faults: Counter[str] = Counter()
        self.done: set[str] = set()

    def run(self, main: Main, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
        self.runs += 1
        code = main([*map(str, arguments), "--lake", self.lake.root])
        line: dict[str, Any] = json.loads(self.capsys.readouterr().out.splitlines()[-1])
        return code, line

    def ingest(self, file: Path) -> dict[str, int]:
        """Trips of the file by day."""
        code, line = self.run(ingest_trips.main, file)
        assert code == EXIT_DONE, line
        days: dict[str, int] = line["days"]
        return days

    def refused(self, kind: str, file: Path) -> None:
        """A file that must change no table."""
        before = [self.lake.version(t) for t in TABLES]
        code, line = self.run(ingest_trips.main, file)
        assert code == EXIT_REFUSED, line
        assert str(file) in line["error"]
        assert [self.lake.version(t) for t in TABLES] == before
        self.faults[kind] += 1

    def pairs(self, days: dict[str, int]) -> None:
        """The gate, the pairs and their check, for each day that a file of such trips touches."""
        for day in partitions_of(days, self.done):
            for main, table in (
                (check_quality.main, [TRIPS.name, "--docs", str(self.docs)]),
                (return_trips.main, []),
                (check_quality.main, [RETURN_TRIPS.name, "--docs", str(self.docs)]),
            ):
                code, line = self.run(main, *table, *interval(day))
                assert code == EXIT_DONE, line
            self.done.add(day)

    def killed(self, kind: str, job: str, *arguments: str | Path, after: str) -> None:
        """A run whose driver is killed a moment after it said so."""
        self.runs += 1
        log = self.docs.parent / f"killed{self.runs}"
        started = start_job(job, *arguments, "--lake", self.lake.root, log=log)
        if started.kill_after(after, random.uniform(0, 1)):
            self.faults[kind] += 1

    def tables(self) -> dict[str, list[Any]]:
        """All rows, without what two runs without trouble would differ in."""
        return {t.name: content(self.lake, t, ("run_id", "paths")) for t in TABLES}


def interval(day: str) -> list[str]:
    return ["--start", day, "--end", str(date.fromisoformat(day) + timedelta(days=1))]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four days, and more of the first day that comes late."""
    made = []
    for name, days, seed in (("days", 4, 1), ("late", 1, 2)):
        folder = tmp_path / name
        size = ["--trips-per-day", str(TRIPS_A_DAY), "--days", str(days), "--seed", str(seed)]
        code = make_trips.main([*size, "--start-date", str(FIRST), "--out", str(folder)])
        assert code == EXIT_DONE
        made += sorted(folder.glob("*.csv.gz"))
    assert len(made) == 5
    return made


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 64 MB in memory; skips for those who may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted: a disk that fills up needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes what is left of the disk, but for a few kilobytes."""
    ballast = folder / "ballast"
    left = shutil.disk_usage(folder).free
    ballast.write_bytes(b"\0" * (left - 8192))
    return ballast


def kill_an_executor(
    cluster: Cluster, wheel: Path, pipeline: Pipeline, day: str, folder: Path
) -> None:
    """A day's pairs on a cluster of two workers, one of which loses its executor on the way."""
    pipeline.runs += 1
    code = folder / "roundtrip.zip"
    shutil.copy(wheel, code)
    log = folder / "cluster.log"
    with log.open("w") as out:
        job = cluster.start(
            *("--py-files", str(code), str(ROOT / "jobs" / "return_trips.py")),
            *("--lake", pipeline.lake.root, "--method", "bucketed", *interval(day)),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        while "join and write ..." not in log.read_text() and job.poll() is None:
            time.sleep(0.05)
        os.kill(cluster.executor_pids()[0], signal.SIGKILL)
        assert job.wait(timeout=600) == 0, log.read_text()[-4000:]
    assert "Lost executor" in log.read_text()
    pipeline.faults["executor killed"] += 1


def test_days_of_faults_end_as_days_without(
    standalone_cluster: Cluster,
    wheel: Path,
    lake: Lake,
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet = Pipeline(lake, tmp_path / "quiet_pages", capsys)
    for file in files:
        quiet.pairs(quiet.ingest(file))

    disk = tmp_path / "disk"
    with small_disk(disk):
        troubled = Pipeline(Lake(lake.spark, str(disk / "lake")), tmp_path / "pages", capsys)
        first, second, third, fourth, late = files

        # Half of a file, as a copy that is under way looks; then two kills while it is ingested.
        cut = tmp_path / "cut.csv.gz"
        cut.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
        troubled.refused("file cut off", cut)
        for after in ("write bronze.trips_raw took", "write silver.trips took"):
            troubled.killed("ingestion killed", "ingest_trips", first, after=after)
        troubled.pairs(troubled.ingest(first))

        # A file with a byte that is not what it was; then two processes that ingest it at once.
        corrupt = tmp_path / "corrupt.csv.gz"
        bytes_of = bytearray(second.read_bytes())
        bytes_of[len(bytes_of) // 2] ^= 0xFF
        corrupt.write_bytes(bytes_of)
        troubled.refused("gzip corrupt", corrupt)
        both = [
            start_job("ingest_trips", second, "--lake", troubled.lake.root, log=tmp_path / name)
            for name in ("one", "two")
        ]
        assert [job.result()[0] for job in both] == [EXIT_DONE] * 2
        troubled.runs += 2
        troubled.faults["two writers at once"] += 1
        day = str(FIRST + timedelta(days=1))
        for after in ("join and write ...", "join and write took"):
            troubled.killed("pairs killed", "return_trips", *interval(day), after=after)
        troubled.pairs(troubled.ingest(second))

        # A file whose columns have other names; then a disk that is full while it is ingested.
        header, rows = gzip.decompress(third.read_bytes()).split(b"\n", 1)
        renamed = tmp_path / "renamed.csv.gz"
        renamed.write_bytes(gzip.compress(header.replace(b"latitude", b"northing") + b"\n" + rows))
        troubled.refused("schema broken", renamed)
        ballast = fill(disk)
        code, line = troubled.run(ingest_trips.main, third)
        assert code == EXIT_FAILED, line
        troubled.faults["disk full"] += 1
        ballast.unlink()
        troubled.pairs(troubled.ingest(third))

        # The same content under another name; then an executor that is lost.
        again = tmp_path / "again.csv"
        again.write_bytes(gzip.decompress(third.read_bytes()))
        troubled.ingest(again)
        troubled.faults["delivered twice"] += 1
        days = troubled.ingest(fourth)
        day = str(FIRST + timedelta(days=3))
        kill_an_executor(standalone_cluster, wheel, troubled, day, tmp_path)
        troubled.pairs(days)

        troubled.pairs(troubled.ingest(late))
        troubled.faults["delivered late"] += 1

        after_all = troubled.tables()
        deliveries = troubled.lake.read(DELIVERIES).collect()

    assert after_all == quiet.tables()
    delivered = sum(len(gzip.decompress(f.read_bytes()).splitlines()) - 1 for f in files)
    read = sum(d["rows_read"] for d in deliveries)
    accepted = sum(d["rows_accepted"] for d in deliveries)
    rejected = sum(d["rows_rejected"] for d in deliveries)
    assert (read, accepted + rejected) == (delivered, delivered)
    assert len(after_all[TRIPS.name]) == accepted
    assert len(after_all[TRIPS_REJECTED.name]) == rejected
    injected = sum(troubled.faults.values())
    with capsys.disabled():
        print(f"\n{injected} faults in {troubled.runs} runs, rows lost = {delivered - read}:")
        for kind, n in sorted(troubled.faults.items()):
            print(f"  {n} x {kind}")

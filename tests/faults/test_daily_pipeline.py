"""Days of the whole pipeline with everything going wrong: the tables of one quiet run over all.

Each day's file is ingested, its trips pass the gate, its pairs are found and checked, as the
schedule would do it, among faults. The figures are printed.
"""

from __future__ import annotations

import gzip
import itertools
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
from tests.few_rows import INTERPRETED_AS_OPTIONS
from tests.job_processes import content, start_job
from tests.standalone import ROOT, Cluster

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

FIRST = date(2015, 12, 1)
TRIPS_A_DAY = 1200
TABLES = (TRIPS_RAW, TRIPS_REJECTED, TRIPS, DELIVERIES, RETURN_TRIPS, RETURN_TRIP_STATS)

Main = Callable[[Sequence[str]], int]


class Pipeline:
    """The jobs on a lake, as the schedule starts them, and a count of what happened to them."""

    def __init__(self, lake: Lake, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder.mkdir()
        self.lake = lake
        self.folder = folder
        self.capsys = capsys
        self.runs = 0
        self.faults: Counter[str] = Counter()
        self.days_done: set[str] = set()

    def run(self, main: Main, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
        self.runs += 1
        code = main([*map(str, arguments), "--lake", self.lake.root])
        line: dict[str, Any] = json.loads(self.capsys.readouterr().out.splitlines()[-1])
        return code, line

    def done(self, main: Main, *arguments: str | Path) -> dict[str, Any]:
        code, line = self.run(main, *arguments)
        assert code == EXIT_DONE, line
        return line

    def ingest(self, *files: Path) -> list[str]:
        """The days whose pairs the files' trips may change, as the schedule tells them."""
        days = partitions_of(self.done(ingest_trips.main, *files)["days"], self.days_done)
        self.days_done |= set(days)
        return days

    def find_pairs(self, days: Sequence[str]) -> None:
        for day in days:
            docs = self.folder / "pages"
            self.done(return_trips.main, "--gate", *interval(day), "--docs", docs)

    def check(self, table: str, days: Sequence[str]) -> None:
        docs = self.folder / "pages"
        self.done(check_quality.main, table, *interval(days[0], days[-1]), "--docs", docs)

    def day(self, file: Path) -> None:
        """All that a file that has landed leads to."""
        days = self.ingest(file)
        self.find_pairs(days)
        self.check(RETURN_TRIPS.name, days)

    def refused(self, fault: str, file: Path) -> None:
        """A file that must change no table."""
        before = self.versions()
        code, line = self.run(ingest_trips.main, file)
        assert code == EXIT_REFUSED, line
        assert str(file) in line["error"]
        assert self.versions() == before
        self.faults[fault] += 1

    def killed(
        self, fault: str, job: str, *arguments: str | Path, after: str, delay_s: float
    ) -> None:
        """A run whose driver is killed so long after it said so."""
        self.runs += 1
        log = self.folder / f"run{self.runs}.log"
        started = start_job(job, *arguments, "--lake", self.lake.root, log=log)
        assert started.kill_after(after, delay_s), log.read_text()
        self.faults[fault] += 1

    def out_of_disk(self, fault: str, step: int, main: Main, *arguments: str | Path) -> None:
        """A run on a full disk, done again with so many bytes more room until that is enough."""
        for n in itertools.count():
            with filled(Path(self.lake.root), n * step):
                code, line = self.run(main, *arguments)
            if code == EXIT_DONE:
                return
            assert code == EXIT_FAILED, line
            assert "No space left on device" in line["error"]
            self.faults[fault] += 1

    def versions(self) -> dict[str, int | None]:
        return {t.name: self.lake.version(t) for t in TABLES}

    def tables(self) -> dict[str, list[Any]]:
        """All rows, without what two runs without trouble would differ in."""
        return {t.name: content(self.lake, t, ("run_id", "paths")) for t in TABLES}

    def report(self, rows: int) -> None:
        """Compare what the tables hold with so many rows delivered, and print the figures."""
        held = [self.lake.read(t).select("file_id", "source_row") for t in (TRIPS, TRIPS_REJECTED)]
        lost = rows - held[0].unionAll(held[1]).distinct().count()
        with self.capsys.disabled():
            faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items()))
            print(
                f"\n{self.faults.total()} faults in {self.runs} runs ({faults}); "
                f"{rows:,} rows delivered, rows lost = {lost}"
            )
        assert lost == 0
        for accounted in (self.lake.read(TRIPS_RAW).count(), sum(t.count() for t in held)):
            assert accounted == rows
        (delivered,) = self.lake.read(DELIVERIES).selectExpr("sum(rows_read)").collect()
        assert delivered[0] == rows


def interval(first: str, last: str | None = None) -> list[str]:
    end = date.fromisoformat(last or first) + timedelta(days=1)
    return ["--start", first, "--end", str(end)]


def made_files(folder: Path, days: int, seed: int) -> list[Path]:
    size = ["--trips-per-day", str(TRIPS_A_DAY), "--days", str(days), "--seed", str(seed)]
    code = make_trips.main([*size, "--start-date", str(FIRST), "--out", str(folder)])
    assert code == EXIT_DONE
    return sorted(folder.glob("*.csv.gz"))


@contextmanager
def filled(folder: Path, room: int) -> Iterator[None]:
    """Take what is left of the folder's disk, but for so many bytes."""
    ballast = folder.parent / "ballast"
    ballast.write_bytes(b"\0" * (shutil.disk_usage(folder.parent).free - room))
    try:
        yield
    finally:
        ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB in memory; skips for those who may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted: a disk that fills up needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def bytes_of(folder: str) -> int:
    """What the files take of a disk, in whole blocks."""
    return sum(f.stat().st_blocks * 512 for f in Path(folder).rglob("*") if f.is_file())


def with_one_byte_changed(file: Path, to: Path) -> Path:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    to.write_bytes(content)
    return to


def with_a_column_renamed(file: Path, to: Path) -> Path:
    header, rows = gzip.decompress(file.read_bytes()).split(b"\n", 1)
    to.write_bytes(gzip.compress(header.replace(b"latitude", b"northing") + b"\n" + rows))
    return to


def kill_an_executor(cluster: Cluster, wheel: Path, pipeline: Pipeline, day: str) -> None:
    """A day's pairs on a cluster of two workers, one of which loses its executor on the way."""
    pipeline.runs += 1
    code = pipeline.folder / "roundtrip.zip"
    shutil.copy(wheel, code)
    log = pipeline.folder / "cluster.log"
    with log.open("w") as out:
        job = cluster.start(
            *INTERPRETED_AS_OPTIONS,
            *("--py-files", str(code), str(ROOT / "jobs" / "return_trips.py")),
            *("--lake", pipeline.lake.root, "--method", "bucketed", *interval(day)),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        while "join and write ..." not in log.read_text() and job.poll() is None:
            time.sleep(0.05)
        assert job.poll() is None, log.read_text()[-4000:]
        os.kill(cluster.executor_pids()[0], signal.SIGKILL)
        assert job.wait(timeout=600) == 0, log.read_text()[-4000:]
    assert "Lost executor" in log.read_text()
    pipeline.faults["executor killed"] += 1


def test_days_of_faults_end_as_a_quiet_run(
    standalone_cluster: Cluster,
    wheel: Path,
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second, third = made_files(tmp_path / "days", 3, seed=1)
    (late,) = made_files(tmp_path / "late", 1, seed=2)
    quiet = Pipeline(lake, tmp_path / "quiet", capsys)
    quiet.find_pairs(quiet.ingest(first, second, third, late))

    troubled = Pipeline(Lake(lake.spark, str(tmp_path / "troubled_lake")), tmp_path / "t", capsys)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)

    # Half of a file, as a copy that is under way looks; then two kills while it is ingested.
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    troubled.refused("file cut off", cut)
    for after in ("write bronze.trips_raw ...", "write silver.trips took"):
        troubled.killed(
            "ingestion killed", "ingest_trips", first, after=after, delay_s=dice.uniform(0, 0.5)
        )
    troubled.day(first)

    # A file with a byte that is not what it was; then two processes that ingest it at once.
    troubled.refused("gzip corrupt", with_one_byte_changed(second, tmp_path / "corrupt.csv.gz"))
    both = [
        start_job("ingest_trips", second, "--lake", troubled.lake.root, log=tmp_path / name)
        for name in ("one", "two")
    ]
    assert [job.result()[0] for job in both] == [EXIT_DONE] * 2
    troubled.runs += 2
    troubled.faults["two writers at once"] += 1
    of_second = interval(str(FIRST + timedelta(days=1)))
    for after in ("join and write ...", "join and write took"):
        troubled.killed(
            "pairs killed", "return_trips", *of_second, after=after, delay_s=dice.uniform(0, 0.5)
        )
    troubled.day(second)

    # A file whose columns have other names; then an executor that is lost.
    renamed = with_a_column_renamed(third, tmp_path / "renamed.csv.gz")
    troubled.refused("schema broken", renamed)
    troubled.ingest(third)
    kill_an_executor(standalone_cluster, wheel, troubled, str(FIRST + timedelta(days=2)))
    troubled.day(third)

    # The same content under another name; then more trips of the first day.
    again = tmp_path / "again.csv"
    again.write_bytes(gzip.decompress(third.read_bytes()))
    troubled.ingest(again)
    troubled.faults["delivered twice"] += 1
    troubled.day(late)
    troubled.faults["delivered late"] += 1

    assert troubled.tables() == quiet.tables()
    troubled.report(rows=4 * TRIPS_A_DAY)


def test_a_disk_that_fills_up_in_every_part_of_a_day(
    small_disk: Path, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = made_files(tmp_path / "days", 1, seed=1)
    quiet = Pipeline(lake, tmp_path / "quiet", capsys)
    days = quiet.ingest(file)
    assert len(days) == 1
    of_ingestion = bytes_of(lake.root)
    quiet.find_pairs(days)
    of_pairs = bytes_of(lake.root) - of_ingestion

    troubled = Pipeline(Lake(lake.spark, str(small_disk / "lake")), tmp_path / "t", capsys)
    step = of_ingestion // 4
    troubled.out_of_disk("ingestion without room", step, ingest_trips.main, file)
    step = of_pairs // 3
    troubled.out_of_disk("pairs without room", step, return_trips.main, *interval(days[0]))

    assert troubled.tables() == quiet.tables()
    assert min(troubled.faults.values()) >= 2
    troubled.report(rows=TRIPS_A_DAY)

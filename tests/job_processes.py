"""Jobs as real processes: started, killed with everything below them, and their tables compared."""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.lake import Lake
from schemas import Table
from tests.few_rows import INTERPRETED_AS_OPTIONS

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class JobProcess:
    """A job in a process group of its own, with its Java in it; what it says is in `log`."""

    process: subprocess.Popen[str]
    log: Path

    def wait_for(self, line: str, timeout_s: float = 300.0) -> None:
        """Return when its log has `line`, or when it has ended."""
        until = time.monotonic() + timeout_s
        while line not in self.log.read_text() and self.process.poll() is None:
            assert time.monotonic() < until, f"no {line!r} in {self.log.read_text()}"
            time.sleep(0.01)

    def kill_after(self, line: str, delay_s: float = 0.0, timeout_s: float = 300.0) -> bool:
        """SIGKILL the whole group `delay_s` after its log has `line`; False if it ended before."""
        self.wait_for(line, timeout_s)
        time.sleep(delay_s)
        lived = self.process.poll() is None
        self.kill()
        return lived

    def interrupt(self) -> None:
        """SIGINT to the whole group, as Ctrl-C in a terminal sends it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        # The group outlives its leader as long as Java, its child, does.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()
        while group_members(self.process.pid):
            time.sleep(0.01)

    def result(self, timeout_s: float = 500.0) -> tuple[int, dict[str, Any]]:
        """Exit code, and the JSON object of the last line on standard output."""
        out, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, json.loads(out.splitlines()[-1])


def start_job(
    job: str, *arguments: str | Path, log: Path, largest_file_bytes: int | None = None
) -> JobProcess:
    """Start `jobs/JOB.py` with plain Python, under a driver of 1 GB and two cores.

    No file that it writes can grow beyond `largest_file_bytes`: a write fails as on a full disk.
    """
    conf = " ".join(
        (
            "--driver-memory 1g --conf spark.master=local[2,4] --conf spark.ui.enabled=false",
            *INTERPRETED_AS_OPTIONS,
            "--driver-java-options -XX:+UseSerialGC",  # the least to start
        )
    )
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": f"{conf} pyspark-shell"}
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "RUN_ID", "LAKE"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
        env=environment,
        start_new_session=True,
    )
    if largest_file_bytes is not None:
        limit = (largest_file_bytes, largest_file_bytes)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)  # Java is started later
    started = JobProcess(process, log)
    atexit.register(started.kill)  # for a test that failed before it waited for its jobs
    return started


def content(lake: Lake, table: Table, without: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """A table's rows, sorted, maps as sorted entries; empty where the table is missing."""
    if not lake.exists(table):
        return []
    columns = [c for c in lake.read(table).columns if c not in without]
    rows = [tuple(_plain(row[c]) for c in columns) for row in lake.read(table).collect()]
    return sorted(rows, key=repr)


def _plain(value: Any) -> Any:
    return sorted(value.items()) if isinstance(value, dict) else value


def group_members(group: int) -> list[int]:
    """The processes of a process group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (OSError, ValueError):
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found

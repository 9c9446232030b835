"""Ranks on a real cluster of two workers, and what becomes of them where something is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.ml.ranks import ROOT, alive, gone, told
from tests.standalone import Cluster

DRIVER = str(ROOT / "tests" / "ml" / "launching.py")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def shipped(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The project as a zip for --py-files, and a folder with the ranks' program alone in it."""
    folder = tmp_path_factory.mktemp("shipped")
    code, programs = folder / "roundtrip.zip", folder / "programs"
    shutil.copy(wheel, code)
    programs.mkdir()
    shutil.copy(ROOT / "tests" / "ml" / "rank_program.py", programs)
    return code, programs


@pytest.fixture
def start(
    standalone_cluster: Cluster, shipped: tuple[Path, Path], tmp_path: Path
) -> Iterator[Start]:
    """Starts the tests' driver; its output goes to tmp_path/out and tmp_path/err."""
    code, programs = shipped
    started: list[subprocess.Popen[str]] = []

    def starts(
        what: Sequence[dict[str, Any]], mode: str = "cluster", options: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            driver = standalone_cluster.start(
                *options,
                *("--py-files", str(code), DRIVER, mode, str(programs), json.dumps(what)),
                stdout=out,
                stderr=err,
            )
        started.append(driver)
        return driver

    yield starts
    for driver in started:
        driver.kill()
        driver.wait()


def folders(tmp_path: Path, *names: str) -> list[Path]:
    made = [tmp_path / name for name in names]
    for folder in made:
        folder.mkdir()
    return made


def result(driver: subprocess.Popen[str], tmp_path: Path) -> list[Any]:
    """How each launch of the driver ended."""
    driver.wait(300)
    said = (tmp_path / "out").read_text()
    assert driver.returncode == 0, said[-6000:]
    found: list[Any] = json.loads(said.splitlines()[-1])
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.slow
def test_ranks_on_two_workers(start: Start, tmp_path: Path) -> None:
    env, failed, summed, cut = folders(tmp_path, "env", "failed", "summed", "cut")
    driver = start(
        [
            {"args": ["environment", str(env)]},
            {"args": ["fail", str(failed), "1", "exit"]},
            {"args": ["all_reduce", str(summed)]},
            {"args": ["tick", str(cut), "20"], "cut": True},
        ]
    )
    assert result(driver, tmp_path) == [
        None,
        [1, 7, "rank 1 ended with exit code 7: it printed nothing"],
        None,
        None,
    ]
    # Two executors of one core each on this machine: one node with two ranks.
    ranks = told(env, 2)
    assert [(r["LOCAL_RANK"], r["LOCAL_WORLD_SIZE"]) for r in ranks] == [("0", "2"), ("1", "2")]
    assert told(summed, 2) == [{"sum": 11.0}] * 2
    assert told(cut, 2) == [{"ticks": 20}] * 2
    said = (tmp_path / "out").read_text()
    assert re.search(r"^\[rank [01]\] tick 0$", said, re.MULTILINE)
    assert 3 <= said.count("] tick ") < 40
    assert not (failed / "attempt1-rank0.json").exists()  # Spark did not start it again
    assert not alive(t["pid"] for t in told(failed, 2))


@pytest.mark.faults
def test_a_failure_that_the_driver_cannot_hear_of_fails_the_job(
    start: Start, tmp_path: Path
) -> None:
    """With its socket cut, the task fails, and Spark stops the other ranks."""
    (folder,) = folders(tmp_path, "failing")
    driver = start([{"args": ["fail", str(folder), "1", "after ticks"], "cut": True}])
    (failure,) = result(driver, tmp_path)
    assert failure == [1, 1, "rank 1 ended with exit code 1: ValueError: no such after ticks"]
    assert gone(t["pid"] for t in told(folder, 2))


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["executor", "python"])
def test_spark_starts_all_ranks_anew(
    start: Start, standalone_cluster: Cluster, tmp_path: Path, victim: str
) -> None:
    (folder,) = folders(tmp_path, "again")
    driver = start([{"args": ["wait_at_first", str(folder)]}])
    first = told(folder, 2)
    python = parent_of(first[1]["guard"])
    killed = python if victim == "python" else standalone_cluster.executor_pids()[0]
    os.kill(killed, signal.SIGKILL)
    assert gone((p for rank in first for p in rank.values()), within_s=20)
    assert result(driver, tmp_path) == [None]
    second = told(folder, 2, attempt=1)
    assert not {r["pid"] for r in first} & {r["pid"] for r in second}


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["local", "cluster"])
@pytest.mark.parametrize("victim", ["jvm", "python"])
def test_no_rank_outlives_a_killed_driver(
    start: Start, tmp_path: Path, mode: str, victim: str
) -> None:
    (folder,) = folders(tmp_path, "killed")
    local = ("--master", "local[2]") if mode == "local" else ()
    driver = start([{"args": ["wait", str(folder)]}], mode, local)
    ranks = told(folder, 2)
    pids = {p for rank in ranks for p in rank.values()}
    if victim == "jvm":
        os.kill(driver.pid, signal.SIGKILL)
    else:
        by_name = ["pgrep", "-f", "-P", str(driver.pid), "launching.py"]
        python = subprocess.run(by_name, capture_output=True, text=True, check=True)
        os.kill(int(python.stdout), signal.SIGKILL)
    assert gone(pids, within_s=60)
    assert driver.wait(60) != 0
    time.sleep(0.5)
    assert not alive(pids)

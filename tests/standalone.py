"""Fixtures for tests of a real cluster: Spark's standalone master with two workers, and a wheel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from jobs.installed import spark_home

ROOT = Path(__file__).resolve().parents[1]
_STARTS_WITHIN_S = 120


Submitted = subprocess.Popen[str]


@dataclass(frozen=True)
class Cluster:
    """A running standalone cluster on this machine, two workers of one core and 1 GB."""

    url: str
    python: Path
    worker_pids: tuple[int, ...]

    def submit(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run spark-submit against the cluster, with the project's cluster.conf."""
        started = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = started.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(started.args, started.returncode, out, err)

    def start(self, *arguments: str, stdout: int | IO[str], stderr: int | IO[str]) -> Submitted:
        """Start what `submit` runs."""
        command = [
            str(spark_home() / "bin" / "spark-submit"),
            *("--master", self.url),
            *("--properties-file", str(ROOT / "spark-conf" / "cluster.conf")),
            *("--conf", "spark.driver.host=127.0.0.1"),
            *("--conf", "spark.ui.enabled=false"),
            *("--conf", "spark.sql.shuffle.partitions=4"),  # of a table with three rows
            *("--conf", "spark.databricks.delta.snapshotPartitions=2"),
            *("--driver-memory", "1g", "--executor-memory", "1g"),
            *arguments,
        ]
        environment = _environment(self.python)
        return subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr, text=True)

    def executor_pids(self) -> list[int]:
        """Processes that the workers started: an executor each, while a job runs."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ValueError):
                state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
                # The script that became the worker may have left it a shell that has ended.
                if int(parent) in self.worker_pids and state != "Z":
                    found.append(int(stat.parent.name))
        return sorted(found)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built in a copy of the tree so that no build output is left in it."""
    work = tmp_path_factory.mktemp("wheel")
    tree, out = work / "tree", work / "out"
    skip = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "dist", "lake", "demo"
    )
    shutil.copytree(ROOT, tree, ignore=skip)
    out.mkdir()
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return next(out.glob("roundtrip-*.whl"))


@pytest.fixture(scope="session")
def python_without_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with everything that is installed here except the project, as on a worker.

    A path file leads to this environment's packages; path files found behind it, the project's
    editable install among them, are not followed.
    """
    home = tmp_path_factory.mktemp("python") / "venv"
    venv.create(home, symlinks=True)
    packages = next(p for p in map(Path, sys.path) if p.name == "site-packages")
    own = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (own / "borrowed.pth").write_text(f"{packages}\n")
    python = home / "bin" / "python"
    probe = "import pyspark, numpy, importlib.util as u; assert u.find_spec('jobs') is None"
    subprocess.run([python, "-c", probe], cwd=home, env=_environment(python), check=True)
    return python


@pytest.fixture(scope="session")
def standalone_cluster(
    tmp_path_factory: pytest.TempPathFactory, python_without_project: Path
) -> Iterator[Cluster]:
    """A master and two workers of one core and 1 GB on 127.0.0.1, stopped at the end."""
    work = tmp_path_factory.mktemp("cluster")
    port, ui = free_port(), free_port()
    url = f"spark://127.0.0.1:{port}"
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> None:
        with (work / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [str(spark_home() / "bin" / "spark-class"), *arguments],
                    env=_environment(python_without_project) | {"SPARK_DAEMON_MEMORY": "256m"},
                    cwd=work,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    deploy = "org.apache.spark.deploy"
    address = ("--host", "127.0.0.1")
    try:
        start(
            "master",
            f"{deploy}.master.Master",
            *address,
            "--port",
            str(port),
            "--webui-port",
            str(ui),
        )
        for i in range(2):
            folder = ("--work-dir", str(work / f"worker{i}"))
            size = ("--cores", "1", "--memory", "1g", "--webui-port", "0")
            start(f"worker{i}", f"{deploy}.worker.Worker", *address, *size, *folder, url)
        _wait_for_workers(f"http://127.0.0.1:{ui}/json/", 2, processes, work)
        pids = tuple(p.pid for p in processes[1:])
        yield Cluster(url, python_without_project, pids)
    finally:
        for process in reversed(processes):  # workers first: they stop their executors
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(python: Path) -> dict[str, str]:
    """The caller's environment with nothing in it that leads to the checkout."""
    ours = ("SPARK_", "PYSPARK_", "PYTHON")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return env | {
        "SPARK_HOME": str(spark_home()),
        "PYSPARK_PYTHON": str(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait_for_workers(
    status_url: str, count: int, processes: list[subprocess.Popen[bytes]], logs: Path
) -> None:
    give_up = time.monotonic() + _STARTS_WITHIN_S
    alive = 0
    while time.monotonic() < give_up and all(p.poll() is None for p in processes):
        with suppress(OSError, ValueError), urllib.request.urlopen(status_url, timeout=5) as answer:
            alive = int(json.load(answer)["aliveworkers"])
            if alive == count:
                return
        time.sleep(0.25)
    said = "\n".join(f"{p.name}: {p.read_text()[-2000:]}" for p in sorted(logs.glob("*.log")))
    pytest.fail(f"{alive} of {count} workers came up\n{said}")

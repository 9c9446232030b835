"""What setup.py ships, and what bootstrap.py does on machines that lack something."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jobs", "pipelines", "schemas", "udfs", "ml")


def tree(to: Path) -> Path:
    """A copy of the project without its environment, as a fresh clone has it."""
    skip = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "lake", "demo")
    return Path(shutil.copytree(ROOT, to, ignore=skip))


def bootstrap(at: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, at / "bootstrap.py", *arguments],
        env=os.environ | env,
        cwd=at.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_wheel_holds_the_packages_and_all_their_data(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    tops = {n.split("/")[0] for n in names}
    assert tops <= {*PACKAGES, "spark_conf"}
    in_tree = {
        str(p.relative_to(ROOT))
        for package in PACKAGES
        for p in (ROOT / package).rglob("*")
        if p.is_file() and not {"__pycache__", "scala"} & set(p.parts) and p.suffix != ".jar"
    }
    assert in_tree - names == set()
    assert "pipelines/trips/layouts/nyc_tlc.toml" in names
    assert {n for n in names if n.startswith("spark_conf/")} == {
        "spark_conf/cluster.conf",
        "spark_conf/log4j2.properties",
        "spark_conf/openlineage.conf",
        "spark_conf/spark-defaults.conf",
        "spark_conf/spark-env.sh",
    }


@pytest.mark.slow
def test_wheel_asks_for_torch_only_under_its_extra(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
        scripts = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    core = {re.split(r"[<>=~;\s]", r)[0] for r in required if "extra ==" not in r}
    assert "pyspark" in core
    assert core & {"torch", "deepspeed", "transformers", "great-expectations", "dagster"} == set()
    assert any(r.startswith("torch") and 'extra == "ml"' in r for r in required)
    assert "roundtrip-ingest-trips = jobs.ingest_trips:main" in scripts


@pytest.mark.slow
def test_wheel_finds_its_spark_conf(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(installed)
    code = "import jobs.session as s; print(s.__file__); print(s.conf_dir())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        str(installed / "jobs" / "session.py"),
        str(installed / "spark_conf"),
    ]


def test_locks_hold_what_setup_py_asks_for() -> None:
    pins = {}
    for lock in ("run", "ml", "dev", "bench"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text()
        pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))
        assert (pinned["pyspark"], pinned["delta-spark"]) == ("4.0.1", "4.0.1")
        assert ("torch" in pinned) == (lock != "run")
        assert text.count("--hash=sha256:") >= len(pinned)
        pins[lock] = pinned
    assert "pytest" in pins["dev"]
    assert "sedonadb" in pins["bench"].keys() - pins["dev"].keys()
    for smaller, larger in (("run", "ml"), ("ml", "dev"), ("dev", "bench")):
        assert pins[smaller].items() <= pins[larger].items()


def test_bootstrap_without_java_is_one_line(tmp_path: Path) -> None:
    done = bootstrap(tree(tmp_path / "clone"), JAVA_HOME=str(tmp_path / "gone"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: Java 17 is needed, none found (JAVA_HOME=")
    assert not (tmp_path / "clone" / ".venv").exists()


def test_bootstrap_with_an_old_python_is_one_line() -> None:
    old = next(
        (
            python
            for minor in range(10, 5, -1)
            for python in [
                shutil.which(f"python3.{minor}"),
                *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")),
            ]
            if python and subprocess.run([python, "-V"], capture_output=True).returncode == 0
        ),
        None,
    )
    if old is None:
        pytest.skip("no Python older than 3.11 here")
    done = subprocess.run([old, ROOT / "bootstrap.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.match(r"setup: Python 3\.11, 3\.12 or 3\.13 is needed, .* is 3\.\d+: install", line)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_bootstrap_without_network_ends_in_one_line_and_no_environment(
    tool: str, tmp_path: Path
) -> None:
    if tool == "uv" and not shutil.which("uv"):
        pytest.skip("no uv here")
    java = Path(shutil.which("java") or "java").resolve().parents[1]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        index = f"http://127.0.0.1:{s.getsockname()[1]}/simple"
        env = {
            "UV_DEFAULT_INDEX": index,
            "UV_CACHE_DIR": str(tmp_path / "cache"),
            "UV_HTTP_RETRIES": "0",
            "PIP_INDEX_URL": index,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "JAVA_HOME": str(java),
        }
        if tool == "pip":
            env["PATH"] = "/usr/bin:/bin"
        clone = tree(tmp_path / "clone")
        # The second must not take the first one's leavings for whole; with pip one is slow enough.
        for _ in range(2 if tool == "uv" else 1):
            done = bootstrap(clone, "run", **env)
            assert done.returncode == 1, done.stderr
            last = done.stderr.splitlines()[-1]
            assert last.startswith("setup: the package index cannot be reached: connect to"), last
            assert f"with {tool}" in done.stderr.splitlines()[0]


@pytest.mark.faults
def test_bootstrap_killed_in_the_middle_is_mended_by_the_next(tmp_path: Path) -> None:
    clone = tree(tmp_path / "clone")
    command = [sys.executable, str(clone / "bootstrap.py"), "run"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        assert first.stderr is not None
        for line in first.stderr:
            if "installing requirements" in line:
                break
        packages = clone / ".venv" / "lib"
        while first.poll() is None and not list(packages.glob("*/site-packages/pyspark")):
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
    assert (clone / ".venv" / "bin" / "python").exists()

    second = bootstrap(clone, "run")
    assert second.returncode == 0, second.stderr
    assert "setup: making" in second.stderr.splitlines()[0]
    check = "import pyspark, pandas, jobs; print(jobs.__file__)"
    done = subprocess.run(
        [clone / ".venv" / "bin" / "python", "-c", check],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(clone / "jobs" / "__init__.py")
    assert list(clone.glob(".venv/lib/*/site-packages/pyspark/jars/delta-spark_*.jar"))

    third = bootstrap(clone, "run")
    assert (third.returncode, third.stdout, third.stderr) == (0, "", "")

"""What a machine may lack: each gives one line that says what to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.installed import SetupError, check_disk, check_java

ROOT = Path(__file__).resolve().parents[2]


def fake_java(home: Path, says: str = "", release: str = "", exits: int = 0) -> Path:
    """A JAVA_HOME whose java only tells its version, as a real one does, on standard error."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {exits}\n")
    java.chmod(0o755)
    if release:
        (home / "release").write_text(f'IMPLEMENTOR="X"\nJAVA_VERSION="{release}"\n')
    return home


@pytest.mark.parametrize("version", ["17", "17.0.15", "17-ea", "21.0.2", "23.0.1"])
def test_java_that_spark_runs_on(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "jdk", release=version)))
    check_java()


@pytest.mark.parametrize("version", ["1.8.0_292", "11.0.2", "16", "24", "25.0.1"])
def test_java_too_old_or_too_new_by_its_release_file(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "jdk", release=version)))
    with pytest.raises(SetupError, match=rf"Java 17 to 23 is needed, found {version} at .*JDK 17"):
        check_java()


def test_java_without_a_release_file_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fake_java(tmp_path / "old", says='openjdk version "1.8.0_292"')
    monkeypatch.setenv("JAVA_HOME", str(old))
    with pytest.raises(SetupError, match=r"found 1\.8\.0_292 at"):
        check_java()
    new = fake_java(tmp_path / "new", says='openjdk version "17.0.1" 2021-10-19')
    monkeypatch.setenv("JAVA_HOME", str(new))
    check_java()


def test_java_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As macOS has it without a JDK: a java that only says where to get one.
    stub = fake_java(tmp_path / "stub", says="Unable to locate a Java Runtime.", exits=1)
    monkeypatch.setenv("JAVA_HOME", str(stub))
    with pytest.raises(SetupError, match="does not run: install a JDK 17"):
        check_java()


def test_dead_java_home_is_named_although_path_has_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Spark takes JAVA_HOME's java and no other, so a good one on PATH does not help.
    monkeypatch.setenv("PATH", str(fake_java(tmp_path / "good", release="17") / "bin"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    with pytest.raises(SetupError, match=r"none found \(JAVA_HOME=.*/gone\): install"):
        check_java()


def test_job_without_java_says_so_in_one_line(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAVA", "SPARK", "PYSPARK"))}
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / "ingest_trips.py", "x.csv", "--lake", str(tmp_path / "l")],
        env=env | {"PATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["outcome"] == "failed"
    (line,) = done.stderr.splitlines()
    assert line.startswith("ingest_trips: Java 17 is needed, none found (no java on PATH): install")
    assert not (tmp_path / "l").exists()


def test_too_little_disk(tmp_path: Path) -> None:
    check_disk(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(SetupError, match=r"GB free, 1000000000\.00 GB are needed: make room"):
        check_disk(tmp_path / "not" / "there" / "yet", 10**18)

"""The jars come once, whole, and are the pinned ones; served here by a web server of our own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs import fetch_jars
from jobs.installed import SetupError, spark_home

SMALL = next(jar for jar in fetch_jars.JARS if jar.artifact == "delta-storage")  # 79 kB


class Repository:
    """A Maven repository in a folder, on 127.0.0.1, that remembers what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                asked.append(self.path)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


Start = Callable[[bytes], Repository]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a repository whose one jar has the given content; the cache is empty."""
    started: list[Repository] = []

    def start(content: bytes) -> Repository:
        folder = tmp_path / "repository"
        jar = folder / SMALL.url("").lstrip("/")
        jar.parent.mkdir(parents=True)
        jar.write_bytes(content)
        started.append(Repository(folder))
        monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", started[-1].url)
        return started[-1]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch_jars, "JARS", (SMALL,))
    yield start
    for repository in started:
        repository.server.shutdown()
        repository.server.server_close()


@pytest.fixture
def content() -> bytes:
    return (spark_home() / "jars" / SMALL.name).read_bytes()


@pytest.fixture
def spark_jars(tmp_path: Path) -> Path:
    folder = tmp_path / "jars"
    folder.mkdir()
    return folder


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_jar_is_fetched_once_for_all_clones(
    serve: Start, content: bytes, spark_jars: Path, tmp_path: Path
) -> None:
    repository = serve(content)
    fetch_jars.fetch_jars(spark_jars)
    assert (spark_jars / SMALL.name).read_bytes() == content
    assert len(repository.asked) == 1

    fetch_jars.fetch_jars(spark_jars)  # there already
    other = tmp_path / "other"
    other.mkdir()
    fetch_jars.fetch_jars(other)  # from the cache
    assert (other / SMALL.name).read_bytes() == content
    assert len(repository.asked) == 1


def test_other_versions_go_and_damaged_jars_are_mended(
    serve: Start, content: bytes, spark_jars: Path
) -> None:
    serve(content)
    (spark_jars / "delta-storage-3.2.0.jar").write_bytes(b"old")
    (spark_jars / SMALL.name).write_bytes(content[:1000])  # as a killed copy would leave it
    (spark_jars / "another.jar").write_bytes(b"not ours")
    fetch_jars.fetch_jars(spark_jars)
    assert files(spark_jars) == sorted(
        {"another.jar", SMALL.name} | ({fetch_jars.OWN_JAR.name} & set(files(spark_jars)))
    )
    assert (spark_jars / SMALL.name).read_bytes() == content


@pytest.mark.parametrize("same_length", [True, False])
def test_wrong_bytes_are_refused_and_not_kept(
    same_length: bool, serve: Start, content: bytes, spark_jars: Path, tmp_path: Path
) -> None:
    repository = serve(b"x" + content[1:] if same_length else b"<html>please log in</html>")
    with pytest.raises(SetupError, match=rf"{SMALL.name} could not be fetched from .* SHA-256"):
        fetch_jars.fetch_jars(spark_jars)
    assert len(repository.asked) == 3  # it tried again, in case the line was at fault
    assert files(spark_jars) == []
    assert files(tmp_path / "cache") == []


def test_repository_without_the_jar(serve: Start, spark_jars: Path, tmp_path: Path) -> None:
    serve(b"")
    shutil.rmtree(tmp_path / "repository")
    with pytest.raises(SetupError, match=r"404 .*: set DEFAULT_ARTIFACT_REPOSITORY to a mirror"):
        fetch_jars.fetch_jars(spark_jars)


def test_no_network_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        env = os.environ | {
            "DEFAULT_ARTIFACT_REPOSITORY": f"http://127.0.0.1:{s.getsockname()[1]}",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "SPARK_HOME": str(tmp_path / "spark"),
        }
        (tmp_path / "spark" / "jars").mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, "-m", "jobs.fetch_jars"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "Connection refused: connect to the internet, or set HTTPS_PROXY" in last
    assert files(tmp_path) == []


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    # A disk of 4 MB, in a mount namespace of its own: gone with the process.
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "spark" / "jars").mkdir(parents=True)
    script = f"mount -t tmpfs -o size=4m none {disk} && exec {sys.executable} -m jobs.fetch_jars"
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*inside, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets us mount no disk of our own (unshare)")
    env = os.environ | {"XDG_CACHE_HOME": str(disk), "SPARK_HOME": str(tmp_path / "spark")}
    done = subprocess.run([*inside, script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    # The first jar has 7.7 MB, and a partial file may have to lie beside it.
    assert line.startswith(f"fetch_jars: the disk of {disk}")
    assert "has 0.00 GB free, 0.02 GB are needed: make room" in line

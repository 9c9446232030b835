"""Files that would run code or write elsewhere, if something took them for more than text."""

from __future__ import annotations

import io
import os
import pickle
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.ingest_trips import main
from jobs.lake import Lake
from schemas import TRIPS_RAW
from tests.job_runs import job_on

_MEMBERS = ("../../evil.csv", "/tmp/roundtrip-evil.csv", "a/../../evil.csv")
_LINK = "link.csv"


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in _MEMBERS:
            archive.writestr(name, "pickup_datetime\n")
        link = zipfile.ZipInfo(_LINK)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")


def tarred(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in _MEMBERS:
            member = tarfile.TarInfo(name)
            member.size = len(text := b"pickup_datetime\n")
            archive.addfile(member, io.BytesIO(text))
        link = tarfile.TarInfo(_LINK)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Touch(path.with_name("evil"))))


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (zipped, "trips.csv", "is a zip archive: unpack it first"),
        (zipped, "trips.csv.zip", "is a zip archive: unpack it first"),
        (tarred, "trips.csv.gz", "has no known column"),
        (pickled, "trips.csv", "has no known column"),
        (pickled, "trips.parquet", "has no known column"),
    ],
)
def test_they_are_refused_and_nothing_is_written_anywhere(
    make: Callable[[Path], None],
    name: str,
    said: str,
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "deliveries" / "today"
    folder.mkdir(parents=True)
    make(folder / name)
    code, line, _ = job_on(lake, main, capsys)(str(folder / name))
    assert (code, line["outcome"]) == (3, "refused")
    assert said in line["error"]
    assert line["error"].isprintable()
    assert not lake.exists(TRIPS_RAW)
    beside = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if "lake" not in p.parts}
    assert beside == {"deliveries", "deliveries/today", f"deliveries/today/{name}"}
    assert not Path("/tmp/roundtrip-evil.csv").exists()

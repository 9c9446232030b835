"""Shards: samples by key, shards that break off, members that must not be read."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from pipelines.figures.delivered import limits as why
from pipelines.figures.delivered.limits import Limits
from pipelines.figures.delivered.places import DeliveryRefused
from pipelines.figures.delivered.tars import BROKEN_SHARD, Sample, samples
from tests.figure_files import jpeg, write_tar

LIMITS = Limits(image_bytes=1 << 20)


def read(path: Path) -> list[Sample]:
    return list(samples(str(path), LIMITS))


def shard(path: Path, count: int) -> Path:
    members = {}
    for i in range(count):
        members[f"{i:04}.jpg"] = jpeg(i)
        members[f"{i:04}.txt"] = f"caption {i}".encode()
    return write_tar(path, members)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_members_of_one_key_are_one_sample(tmp_path: Path, name: str) -> None:
    path = write_tar(
        tmp_path / name,
        {
            "./x/1.JPG": jpeg(1),
            "./x/1.json": b'{"caption": "one", "n": 2, "none": null}',
            "./x/1.left.png": jpeg(2),
            "./x/1.npy": b"bytes",
            "2.txt": "zwei ü".encode(),
            "3.cls": b"7",
            "3.json": b"[1]",
            "3.png": jpeg(3),
        },
    )
    one, two, three = read(path)
    assert (one.key, one.member, one.image) == ("x/1", "./x/1.JPG", jpeg(1))
    assert one.texts == {
        "caption": "one",
        "n": "2",
        "(also) .left.png": "./x/1.left.png",
        "(member) .npy": "./x/1.npy",
    }
    assert (two.key, two.position, two.image, two.texts) == ("2", 1, None, {"txt": "zwei ü"})
    assert (three.image, three.texts) == (jpeg(3), {"cls": "7", "json": "[1]"})


def test_what_macos_adds_parts_no_sample(tmp_path: Path) -> None:
    members = {"./._1.jpg": b"attributes", "./1.jpg": jpeg(1), "./._1.txt": b"attributes"}
    members |= {"./1.txt": b"one", "__MACOSX/._2.jpg": b"attributes", "2.jpg": jpeg(2)}
    one, two = read(write_tar(tmp_path / "a.tar", members))
    assert (one.key, one.image, one.texts) == ("1", jpeg(1), {"txt": "one"})
    assert (two.key, two.image, two.texts) == ("2", jpeg(2), {})


@pytest.mark.parametrize("compressed", [False, True], ids=["tar", "tar.gz"])
def test_a_shard_that_breaks_off_anywhere_gives_what_was_whole(
    tmp_path: Path, compressed: bool
) -> None:
    whole = shard(tmp_path / ("a.tar.gz" if compressed else "a.tar"), 8)
    expected = read(whole)
    content = whole.read_bytes()
    with tarfile.open(whole) as archive:
        archive.getmembers()
        end = len(content) * 2 // 3 if compressed else archive.offset
    # Of a compressed shard the first block is there once it can be decompressed.
    first_header = 300 if compressed else 512
    path = tmp_path / whole.name.replace("a", "cut")
    for cut in [*range(1, end, 997), end]:
        path.write_bytes(content[:cut])
        if cut < first_header:
            with pytest.raises(DeliveryRefused, match="is no tar archive"):
                read(path)
            continue
        found = read(path)
        *good, last = found
        assert last.problem == BROKEN_SHARD
        assert "breaks off" in last.texts["error"]
        assert good == expected[: len(good)]
        assert len(good) < len(expected)


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    whole = shard(tmp_path / "a.tar", 6)
    raw = bytearray(whole.read_bytes())
    at = raw.index(b"0003.jpg")
    raw[at + 150] ^= 0xFF  # in its checksum
    whole.write_bytes(raw)
    *good, last = read(whole)
    assert [s.key for s in good] == ["0000", "0001"]
    assert "its end mark is missing" in last.texts["error"]


def test_members_that_lead_elsewhere_or_are_no_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"kind{kind.decode()}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name in ("../up.jpg", "/etc/abs.jpg", "a/../../b.jpg", "C:\\x.jpg", "large.jpg"):
            member = tarfile.TarInfo(name)
            member.size = (2 << 20) if name == "large.jpg" else 3
            archive.addfile(member, io.BytesIO(b"x" * member.size))
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        member = tarfile.TarInfo("good.jpg")
        member.size = len(jpeg(1))
        archive.addfile(member, io.BytesIO(jpeg(1)))
    found = read(path)
    assert [s.problem for s in found] == [
        *[why.NOT_A_FILE] * 4,
        *[why.OUTSIDE] * 4,
        why.TOO_LARGE,
        None,
    ]
    assert [s.image for s in found] == [None] * 9 + [jpeg(1)]


def test_a_header_of_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", 1)
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 7 << 30
    bomb = member.tobuf() + b"\0" * 10_000
    path = tmp_path / "a.tar.gz"
    good = (tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    path.write_bytes(gzip.compress(good.ljust(-len(good) % 512 + len(good), b"\0") + bomb))
    (last,) = read(path)
    assert last.problem == BROKEN_SHARD
    assert "a header declares 7,516,192,768 bytes" in last.texts["error"]


def test_names_of_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("\udcff.jpg")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    (sample,) = read(path)
    assert (sample.key, sample.member) == ("\ufffd", "\ufffd.jpg")


@pytest.mark.parametrize(
    "content", [b"", b"no tar at all" * 100, gzip.compress(b"text" * 1000, mtime=0)]
)
def test_no_tar_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(DeliveryRefused, match="is no tar archive that can be read"):
        read(path)

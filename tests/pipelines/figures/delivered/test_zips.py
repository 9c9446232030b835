"""Zip archives: members that must not be read, and those that are what they say."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.figures.delivered import limits as why
from pipelines.figures.delivered.limits import Limits
from pipelines.figures.delivered.places import DeliveryRefused
from pipelines.figures.delivered.zips import members, read_member

SMALL = Limits(image_bytes=1 << 20, ratio=100, small_bytes=1 << 16)
CONTENT = bytes(range(256)) * 40


def found(path: Path, limits: Limits = SMALL) -> dict[str, Any]:
    return {m["member"]: m for m in members(str(path), limits)}


def content(path: Path, member: dict[str, Any]) -> bytes | str:
    keys = ("offset", "packed", "size", "method", "crc")
    with path.open("rb") as stream:
        return read_member(stream, **{k: member[k] for k in keys})


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_where_they_lie(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("images")
        archive.writestr("images/a.jpg", CONTENT)
        archive.writestr("images/empty.jpg", b"")
        archive.writestr("ü.jpg", CONTENT[:100])
    of = found(path)
    assert set(of) == {"images/a.jpg", "images/empty.jpg", "ü.jpg"}
    assert {m["problem"] for m in of.values()} == {None}
    assert content(path, of["images/a.jpg"]) == CONTENT
    assert content(path, of["images/empty.jpg"]) == b""
    assert content(path, of["ü.jpg"]) == CONTENT[:100]


def entry(name: str, mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr, made.compress_type = mode << 16, method
    return made


def test_members_that_lead_elsewhere_or_are_no_files(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    expected = {
        "../evil.jpg": why.OUTSIDE,
        "a/../../evil.jpg": why.OUTSIDE,
        "/etc/passwd": why.OUTSIDE,
        "C:/evil.jpg": why.OUTSIDE,
        "..\\evil.jpg": why.OUTSIDE,
        "link.jpg": why.NOT_A_FILE,
        "device.jpg": why.NOT_A_FILE,
        "odd.jpg": why.UNSUPPORTED,
        "bomb.jpg": why.BOMB,
        "large.jpg": why.TOO_LARGE,
        "good.jpg": None,
    }
    modes = {"link.jpg": stat.S_IFLNK | 0o777, "device.jpg": stat.S_IFBLK | 0o600}
    dice = [i * 2654435761 % 251 for i in range(1 << 20)]
    contents = {"bomb.jpg": b"\0" * (1 << 19), "large.jpg": bytes(dice) + b"\0"}
    with zipfile.ZipFile(path, "w") as archive:
        for name in expected:
            method = zipfile.ZIP_BZIP2 if name == "odd.jpg" else zipfile.ZIP_DEFLATED
            method = zipfile.ZIP_STORED if name == "large.jpg" else method
            info = entry(name, modes.get(name, 0), method)
            archive.writestr(info, contents.get(name, b"x" * 500))
    assert {name: m["problem"] for name, m in found(path).items()} == expected


def test_encrypted_members(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", CONTENT)
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(raw)
    assert found(path)["a.jpg"]["problem"] == why.ENCRYPTED


def test_a_member_that_unpacks_to_more_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"\0" * (50 << 20))
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 1000)  # the declared size
    path.write_bytes(raw)
    member = found(path)["a.jpg"]
    assert (member["problem"], member["size"]) == (None, 1000)
    assert content(path, member) == why.BROKEN


@pytest.mark.parametrize("flipped", [0, 40, 200])
def test_a_damaged_member_is_broken_and_the_others_are_read(tmp_path: Path, flipped: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", CONTENT)
        archive.writestr("b.jpg", CONTENT)
    of = found(path)
    raw = bytearray(path.read_bytes())
    raw[of["a.jpg"]["offset"] + flipped] ^= 0xFF
    path.write_bytes(raw)
    assert content(path, of["a.jpg"]) == why.BROKEN
    assert content(path, of["b.jpg"]) == CONTENT


def test_offsets_beyond_the_end(tmp_path: Path) -> None:
    of = {"offset": 10_000, "packed": 10, "size": 10, "method": 0, "crc": 0}
    assert read_member(io.BytesIO(b"short"), **of) == why.BROKEN


@pytest.mark.parametrize("cut", [0, 10, -10])
def test_an_archive_without_a_directory_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", CONTENT)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DeliveryRefused, match="is no zip archive that can be read"):
        found(path)

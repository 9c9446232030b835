"""WebDataset shards: tar archives read as streams, members grouped by key, nothing unpacked.

The only module that may use `tarfile`, and only to walk through a stream: `extract` is never
called, and links, devices and names that lead elsewhere are refused by reading past them.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from pipelines.figures.delivered.limits import NOT_A_FILE, OUTSIDE, Limits, unsafe_name
from pipelines.figures.delivered.lists import texts
from pipelines.figures.delivered.places import IMAGE_ENDINGS, DeliveryRefused, open_stream

BROKEN_SHARD = "broken_shard"

_TEXT_ENDINGS = (".txt", ".caption", ".cap", ".text", ".cls", ".id")
_TEXT_BYTES = 16 << 20
_HEADER_TYPES = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_HEADER_BYTES = 1 << 20
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"


@dataclass
class Sample:
    """What a shard holds under one key.

    `image` is None where there is none or it is refused, with why in `problem`.
    """

    key: str
    position: int
    member: str | None = None
    image: bytes | None = None
    problem: str | None = None
    texts: dict[str, str] = field(default_factory=dict)


def samples(url: str, limits: Limits) -> Iterator[Sample]:
    """The shard's samples in its order; keys are paths up to the first dot of the last part.

    A shard that breaks off gives what was whole, and last a Sample with the problem BROKEN_SHARD
    and what is wrong in `texts`. Raises DeliveryRefused where it is no tar archive at all.
    """
    sample: Sample | None = None
    position = 0
    with open_stream(url) as stream:
        try:
            for info, content in _members(stream):
                info.name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                if _is_of_macos(info.name):
                    continue
                stem, ending = _split(info.name)
                if sample is None or sample.key != stem:
                    if sample is not None:
                        yield sample
                        position += 1
                    sample = Sample(stem, position)
                _add(sample, info, ending, content, limits)
        except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as e:
            if sample is None:
                raise DeliveryRefused(f"{url} is no tar archive that can be read: {e}") from e
            # The sample that was being read may lack members: it is not taken for whole.
            yield Sample("", position, problem=BROKEN_SHARD, texts={"error": f"breaks off: {e}"})
            return
    if sample is not None:
        yield sample


def _members(stream: Any) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    is_gzip = stream.read(2) == _GZIP
    stream.seek(0)
    watched = _Watched(gzip.GzipFile(fileobj=stream) if is_gzip else stream)
    with tarfile.open(fileobj=watched, mode="r|", bufsize=_CHUNK, tarinfo=_TarInfo) as archive:  # type: ignore[call-overload]
        while (info := archive.next()) is not None:
            if not info.isdir():
                yield info, archive.extractfile(info) if info.isreg() else None
            archive.members.clear()  # which would hold every header of the shard
        # tarfile takes a cut or damaged header for the end; the true end is a block of zeros.
        if watched.block(archive.offset).strip(b"\0") or not watched.block(archive.offset):
            raise tarfile.ReadError("its end mark is missing")


class _Watched:
    """A stream that can say what was last read from it."""

    def __init__(self, stream: Any) -> None:
        self.count = 0
        self.last: deque[bytes] = deque()
        self.held = 0
        # Short reads: of a stream that breaks off, what comes before the break is given out.
        self.read1 = getattr(stream, "read1", stream.read)

    def read(self, size: int) -> bytes:
        content = bytes(self.read1(size))
        self.count += len(content)
        self.last.append(content)
        self.held += len(content)
        while self.held - len(self.last[0]) >= 2 * _CHUNK:
            self.held -= len(self.last.popleft())
        return content

    def block(self, offset: int) -> bytes:
        """The 512 bytes there, b"" where the stream ended before them."""
        tail = b"".join(self.last)
        start = offset - (self.count - len(tail))
        found = tail[start : start + tarfile.BLOCKSIZE] if start >= 0 else b""
        return found if len(found) == tarfile.BLOCKSIZE else b""


class _TarInfo(tarfile.TarInfo):
    """Headers of headers (long names, pax) are read into memory at the size that they declare."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _TarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _HEADER_TYPES and info.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header declares {info.size:,} bytes")
        return info


def _is_of_macos(name: str) -> bool:
    """What macOS puts beside a file that has attributes, between the members of a sample."""
    return name.rpartition("/")[2].startswith("._") or "__MACOSX" in name.split("/")


def _split(name: str) -> tuple[str, str]:
    """Key and ending of a member: ("train/0001", ".left.jpg") of "./train/0001.left.jpg"."""
    folder, _, last = name.removeprefix("./").rpartition("/")
    stem, dot, ending = last.partition(".") if not last.startswith(".") else (last, "", "")
    return f"{folder}/{stem}" if folder else stem, f"{dot}{ending}".lower()


def _add(
    sample: Sample, info: tarfile.TarInfo, ending: str, content: IO[bytes] | None, limits: Limits
) -> None:
    if unsafe_name(info.name.removeprefix("./")):
        sample.problem = sample.problem or OUTSIDE
    elif content is None:
        sample.problem = sample.problem or NOT_A_FILE
    elif ending.endswith(IMAGE_ENDINGS):
        if sample.member is not None:  # a second image of the same sample
            sample.texts[f"(also) {ending}"] = info.name
        elif fault := limits.fault(info.size, info.size):
            sample.member, sample.problem = info.name, fault
        else:
            # Without a byte it is not there, as in a folder.
            sample.member, sample.image = info.name, _whole(content, info.size) or None
    elif ending.endswith(".json"):
        _add_json(sample, ending, _whole(content, min(info.size, _TEXT_BYTES)))
    elif ending.endswith(_TEXT_ENDINGS):
        text = _whole(content, min(info.size, _TEXT_BYTES))
        sample.texts[ending.removeprefix(".")] = text.decode("utf-8-sig", "replace")
    else:
        sample.texts[f"(member) {ending}"] = info.name


def _add_json(sample: Sample, ending: str, content: bytes) -> None:
    try:
        found = json.loads(content.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        sample.texts.update(texts(found))
    else:
        sample.texts[ending.removeprefix(".")] = content.decode("utf-8", "replace")


def _whole(content: IO[bytes], size: int) -> bytes:
    found = content.read(size)
    if len(found) < size:
        raise EOFError(f"a member has {len(found)} of its {size} bytes")
    return found

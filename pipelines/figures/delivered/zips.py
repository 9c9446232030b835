"""Images in a zip archive: its directory read once, members read where they lie, nothing unpacked.

The only module that may use `zipfile`, and only for the archive's central directory: a worker reads
a member by its offset and inflates it within the limits, so that no worker holds a directory of
millions of names, and no member ever becomes a file.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from pipelines.figures.delivered.limits import (
    BROKEN,
    ENCRYPTED,
    NOT_A_FILE,
    OUTSIDE,
    UNSUPPORTED,
    Limits,
    unsafe_name,
)
from pipelines.figures.delivered.places import DeliveryRefused, open_stream

_LOCAL_HEADER = struct.Struct("<4s22sHH")  # signature, what the directory says too, two lengths
_SIGNATURE = b"PK\x03\x04"
_IS_ENCRYPTED = 0x1
_CHUNK = 1 << 20


def members(url: str, limits: Limits) -> Iterator[dict[str, Any]]:
    """What the archive holds: `member`, `offset`, `packed`, `size`, `method`, `crc`, `problem`.

    Folders are passed over. `problem` is why a member is refused. Raises DeliveryRefused where the
    archive has no directory that can be read.
    """
    with open_stream(url) as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as e:
            raise DeliveryRefused(f"{url} is no zip archive that can be read: {e}") from e
        for info in archive.infolist():
            if info.is_dir():
                continue
            yield {
                "member": info.filename,
                "offset": info.header_offset,
                "packed": info.compress_size,
                "size": info.file_size,
                "method": info.compress_type,
                "crc": info.CRC,
                "problem": _fault(info, limits),
            }


def _fault(info: zipfile.ZipInfo, limits: Limits) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if unsafe_name(info.orig_filename):
        return OUTSIDE
    if kind and kind != stat.S_IFREG:  # a link, a device, a pipe
        return NOT_A_FILE
    if info.flag_bits & _IS_ENCRYPTED:
        return ENCRYPTED
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return UNSUPPORTED
    return limits.fault(info.compress_size, info.file_size)


def read_member(
    stream: IO[bytes], *, offset: int, packed: int, size: int, method: int, crc: int
) -> bytes | str:
    """A member's bytes, or the reason why it is refused.

    At most `size` + 1 bytes are ever inflated, whatever the data would become.
    """
    stream.seek(offset)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        return BROKEN
    signature, _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    if signature != _SIGNATURE:
        return BROKEN
    stream.seek(name_bytes + extra_bytes, 1)
    if method == zipfile.ZIP_STORED:
        content = stream.read(size) if packed == size else b""
    else:
        content = _inflated(stream, packed, size)
    return content if len(content) == size and zlib.crc32(content) == crc else BROKEN


def _inflated(stream: IO[bytes], packed: int, size: int) -> bytes:
    """Up to `size` + 1 bytes; b"" where the data is no deflate stream."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    room, left = size + 1, packed
    try:
        while room > 0 and left > 0 and not inflate.eof:
            chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                break
            left -= len(chunk)
            while chunk and room > 0:
                parts.append(inflate.decompress(chunk, room))
                room -= len(parts[-1])
                chunk = inflate.unconsumed_tail
    except zlib.error:
        return b""
    return b"".join(parts)

"""What a compressed frame says of its own size, read before any codec is called.

A codec allocates what the codestream declares, not what the DICOM header does: a few flipped bits
make a 512 x 512 slice one of 4 billion pixels.
"""

from __future__ import annotations

from typing import NamedTuple

_SOI, _SOS = 0xD8, 0xDA
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # tables within the range of the start-of-frame markers
_J2K_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  "


class Codestream(NamedTuple):
    """Size in pixels, channels and bits a sample."""

    width_px: int
    height_px: int
    channels: int
    bits: int


def codestream_of(frame: bytes) -> Codestream | None:
    """What a JPEG, JPEG-LS or JPEG 2000 frame declares; None where it is none of them.

    Follows the markers SOFn (ITU-T T.81, B.2.2; T.87, C.2.2) and SIZ (T.800, A.5.1).
    """
    if frame[:2] == b"\xff\xd8":
        return _of_jpeg(frame)
    start = frame.find(_J2K_START) if frame[:8] == _JP2_START else 0
    if start >= 0 and frame[start : start + 4] == _J2K_START:
        return _of_jpeg_2000(frame[start:])
    return None


def _of_jpeg(frame: bytes) -> Codestream | None:
    at = 2
    while at + 10 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES):
            height, width = _number(frame, at + 5, 2), _number(frame, at + 7, 2)
            return Codestream(width, height, frame[at + 9], frame[at + 4])
        if marker == _SOS:
            return None
        stands_alone = marker in (_SOI, 0x01) or 0xD0 <= marker <= 0xD7
        at += 2 if stands_alone else 2 + max(2, _number(frame, at + 2, 2))
    return None


def _of_jpeg_2000(stream: bytes) -> Codestream | None:
    if len(stream) < 45:
        return None
    right, bottom, left, top = (_number(stream, 8 + 4 * i, 4) for i in range(4))
    return Codestream(right - left, bottom - top, _number(stream, 40, 2), (stream[42] & 0x7F) + 1)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")

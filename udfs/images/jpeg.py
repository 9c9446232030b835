"""JPEG by libjpeg-turbo: the quick way in and out."""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image

from udfs.images.picture import Limits, Picture, Rejected

CODEC = f"simplejpeg {simplejpeg.__version__}"

_ORIENTATION = 0x0112
# EXIF stands first in a file, or after a small segment.
_EXIF_WITHIN = 2**15
# By EXIF's number: whether rows and columns change places, then which axes are turned round.
_TURNS: dict[int, tuple[bool, tuple[int, ...]]] = {
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}


class NotForTurbo(Exception):
    """Another decoder should try: of four colours, or with faults that may be harmless."""


def decode_jpeg(content: bytes, enough_px: int | None, limits: Limits) -> Picture:
    """A JPEG file as a picture, see `decode`. Raises Rejected or NotForTurbo."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError as e:
        raise NotForTurbo from e
    limits.check(width, height)
    if colours in ("CMYK", "YCCK"):  # which may be inverted
        raise NotForTurbo
    mode = "L" if colours == "Gray" else "RGB"
    longest = max(width, height)
    divisor = _divisor(longest, enough_px)
    try:
        pixels = simplejpeg.decode_jpeg(
            content,
            "GRAY" if mode == "L" else mode,
            min_height=-(-height // divisor),
            min_width=-(-width // divisor),
            # Coarser colours between pixels are not to be seen in what is made smaller anyway.
            fastupsample=enough_px is not None and longest > enough_px,
        )
    except ValueError as e:
        raise _fault(str(e)) from e
    if mode == "L":
        pixels = pixels[..., 0]
    swapped, turned = _TURNS.get(_orientation(content), (False, ()))
    if swapped:
        pixels = pixels.swapaxes(0, 1)
        height, width = width, height
    return Picture(np.flip(pixels, turned), width, height, "JPEG", mode, CODEC)


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """(height, width) or (height, width, 3) uint8 as a JPEG; colours at half the resolution."""
    if pixels.ndim == 2:
        gray = np.ascontiguousarray(pixels)[..., None]
        return simplejpeg.encode_jpeg(gray, quality, "GRAY", "Gray")
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420")


def _divisor(longest_px: int, enough_px: int | None) -> int:
    """libjpeg-turbo decodes to 1/2, 1/4, 1/8 in vector code; other fractions cost more than all."""
    if enough_px is None:
        return 1
    return next((n for n in (8, 4, 2) if -(-longest_px // n) >= enough_px), 1)


def _orientation(content: bytes) -> int:
    if content.find(b"Exif\0\0", 0, _EXIF_WITHIN) < 0:
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
                return int(image.getexif().get(_ORIENTATION, 1))
        except Exception:  # EXIF that cannot be read says nothing; Pillow raises all sorts for it
            return 1


def _fault(message: str) -> Exception:
    """What libjpeg's words mean; they are fixed texts of its jerror.h."""
    if "Premature end of JPEG file" in message:
        return Rejected("truncated")
    if "premature end of data segment" in message or "bad Huffman code" in message:
        return Rejected("corrupt")
    return NotForTurbo(message)

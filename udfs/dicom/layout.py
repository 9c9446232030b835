"""What a DICOM header says of its pixels, checked before anything is allocated for them."""

from __future__ import annotations

from typing import NamedTuple

from pydicom import Dataset, uid

from udfs.dicom.reading import number_of, text_of
from udfs.images.picture import Rejected

MAX_PIXELS_A_FRAME = 1 << 25
"""33 million, above the largest mammograms and films."""
MAX_PIXELS_A_FILE = 1 << 28
"""All frames together."""
MAX_FRAMES = 1 << 14

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"
_CHANNELS = dict.fromkeys((*_GRAY, PALETTE), 1) | dict.fromkeys(_COLOURS, 3)


class Layout(NamedTuple):
    """What the header says of the pixels."""

    syntax: uid.UID
    width_px: int
    height_px: int
    frames: int
    photometric: str
    channels: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool


def layout_of(dataset: Dataset) -> Layout:
    """What the header says of the pixels.

    Raises Rejected: `unsupported_pixels`, `inconsistent_header` where no picture is so, or
    `too_many_pixels`.
    """

    def whole(name: str, default: int | None = None) -> int:
        number = number_of(dataset, name)
        if number is None and default is not None:
            return default
        if number is None or number != int(number):
            raise Rejected("inconsistent_header")
        return int(number)

    photometric = text_of(dataset, "PhotometricInterpretation").upper()
    if photometric not in _CHANNELS:
        raise Rejected("unsupported_pixels")
    allocated, stored = whole("BitsAllocated"), whole("BitsStored")
    layout = Layout(
        syntax=_syntax_of(dataset),
        width_px=whole("Columns"),
        height_px=whole("Rows"),
        frames=whole("NumberOfFrames", 1) or 1,
        photometric=photometric,
        channels=whole("SamplesPerPixel", 1),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=whole("HighBit", stored - 1),
        signed=whole("PixelRepresentation", 0) == 1,
    )
    if not (
        layout.width_px > 0
        and layout.height_px > 0
        and layout.frames > 0
        and layout.channels == _CHANNELS[photometric]
        and allocated in (1, 8, 16, 32)
        and 1 <= stored <= layout.high_bit + 1 <= allocated
    ):
        raise Rejected("inconsistent_header")
    if layout.channels == 3 and (layout.signed or allocated not in (8, 16)):
        raise Rejected("unsupported_pixels")
    pixels = layout.width_px * layout.height_px
    if (
        pixels > MAX_PIXELS_A_FRAME
        or pixels * layout.frames > MAX_PIXELS_A_FILE
        or layout.frames > MAX_FRAMES
    ):
        raise Rejected("too_many_pixels")
    return layout


def _syntax_of(dataset: Dataset) -> uid.UID:
    named = uid.UID(text_of(dataset.file_meta, "TransferSyntaxUID"))
    if named:
        return named
    is_implicit, is_little_endian = dataset.original_encoding  # as pydicom found it to be
    if is_implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if is_little_endian else uid.ExplicitVRBigEndian

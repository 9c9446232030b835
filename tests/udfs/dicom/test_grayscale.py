"""Stored values become the gray that a viewer shows."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence, dcmread, uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from tests.made_dicom import RAMP, made, reason_of, shown
from udfs.images.dicom import frames_of


@pytest.mark.parametrize(
    ("function", "width", "stored", "gray"),
    [
        # PS3.3, C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, and the ends
        ("LINEAR", 101, 50, 0),
        ("LINEAR", 101, 100, round((0.5 / 100 + 0.5) * 255)),
        ("LINEAR", 101, 150, 255),
        ("LINEAR", 1, 99, 0),
        ("LINEAR", 1, 100, 255),
        (None, 101, 125, round((25.5 / 100 + 0.5) * 255)),
        # C.11.2.1.3.2: ((x - c) / w + 0.5) * 255
        ("LINEAR_EXACT", 100, 50, 0),
        ("LINEAR_EXACT", 100, 75, 64),
        ("LINEAR_EXACT", 100, 150, 255),
        # C.11.2.1.3.1: 255 / (1 + exp(-4 (x - c) / w))
        ("SIGMOID", 100, 100, 128),
        ("SIGMOID", 100, 125, round(255 / (1 + np.exp(-1)))),
        ("SIGMOID", 100, 0, round(255 / (1 + np.exp(4)))),
    ],
)
def test_window_functions(function: str | None, width: float, stored: int, gray: int) -> None:
    elements: dict[str, Any] = {"WindowCenter": [100, 7], "WindowWidth": [width, 9]}
    if function:
        elements["VOILUTFunction"] = function
    assert abs(int(shown(made(RAMP, **elements))[stored // 16, stored % 16]) - gray) <= 1


def test_a_window_is_about_rescaled_values() -> None:
    signed = (RAMP.astype(np.int16) - 128).reshape(16, 16)
    content = made(
        signed, RescaleSlope=2, RescaleIntercept=1000, WindowCenter=1000.5, WindowWidth=257
    )
    expected = np.clip((signed * 2.0) / 256 + 0.5, 0, 1) * 255
    assert np.abs(shown(content) - expected).max() <= 1


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": -5},
        {"WindowCenter": 60000, "WindowWidth": 10},
        {"WindowCenter": 100},
        {"RescaleSlope": 0, "RescaleIntercept": 5},
    ],
)
def test_without_a_window_that_shows_something_the_range_is_shown(elements: dict[str, Any]) -> None:
    pixels = RAMP + 1000
    gray = shown(made(pixels, **elements))
    assert gray[0, 0] == 0
    assert gray[-1, -1] == 255
    assert abs(int(gray[8, 0]) - 128) <= 1


def test_one_bright_pixel_does_not_darken_the_rest() -> None:
    pixels = np.tile(RAMP, (8, 8))
    pixels[5, 5] = 65535
    assert shown(made(pixels)).mean() > 120


def test_padding_is_black_and_no_part_of_the_range() -> None:
    pixels = RAMP.astype(np.int16) + 500
    pixels[:4] = -2000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        gray = shown(made(pixels, PixelPaddingValue=-2000, PhotometricInterpretation=photometric))
        assert not gray[:4].any()
        assert gray[4:].min() == 0
        assert gray[4:].max() == 255
    pixels[3] = -1990
    gray = shown(made(pixels, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980))
    assert not gray[:4].any()
    assert np.ptp(gray[4:]) == 255


def test_monochrome_1_is_inverted() -> None:
    eight_bits = RAMP.astype(np.uint8)
    assert np.array_equal(
        shown(made(eight_bits, PhotometricInterpretation="MONOCHROME1")), 255 - eight_bits
    )


def test_eight_bits_without_a_window_are_left_alone() -> None:
    pixels = (RAMP // 4 + 20).astype(np.uint8)
    assert np.array_equal(shown(made(pixels)), pixels)


def lookup_table(entries: list[int], first: int, bits: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item["LUTDescriptor"].VR = "US" if first >= 0 else "SS"
    item.add_new("LUTData", "US", entries)
    return Sequence([item])


def test_a_voi_table_goes_before_a_window_and_may_have_many_8_bit_entries() -> None:
    """4096 8-bit entries: pydicom 3.0.2 wraps at 256 here, so the expectation is made by hand."""
    pixels = (RAMP * 16).astype(np.uint16)
    entries = [i // 16 for i in range(4096)]
    content = made(
        pixels, VOILUTSequence=lookup_table(entries, 0, 8), WindowCenter=5, WindowWidth=9
    )
    assert np.array_equal(shown(content), RAMP)


def test_tables_of_modality_and_voi_follow_on_each_other() -> None:
    reversed_table = lookup_table(list(range(255, -1, -1)), 0, 16)
    content = made(
        RAMP,
        ModalityLUTSequence=reversed_table,
        VOILUTSequence=lookup_table([v * 257 for v in range(100)], 0, 16),
    )
    expected = np.minimum(255 - RAMP.astype(int), 99)
    assert np.array_equal(shown(content), expected)
    header = dcmread(BytesIO(content))
    reference = apply_voi_lut(apply_modality_lut(header.pixel_array, header), header)
    assert np.abs(shown(content) - reference / 257).max() <= 1


def test_a_table_that_is_cut_short_has_a_reason() -> None:
    short = lookup_table([1, 2, 3], 0, 8)
    short[0].LUTDescriptor = [200, 0, 8]
    assert reason_of(made(RAMP, VOILUTSequence=short)) == "bad_lookup_table"


def test_each_frame_has_its_own_window() -> None:
    groups = []
    for centre in (50, 200):
        voi, group = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = centre, 100, "LINEAR_EXACT"
        group.FrameVOILUTSequence = Sequence([voi])
        groups.append(group)
    rescale, shared = Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, 10
    shared.PixelValueTransformationSequence = Sequence([rescale])
    content = made(
        np.stack([RAMP, RAMP]),
        SOPClassUID=uid.EnhancedCTImageStorage,
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    for picture, centre in zip(frames_of(content), (50, 200), strict=True):
        expected = np.clip((RAMP + 10.0 - centre) / 100 + 0.5, 0, 1) * 255
        assert np.abs(picture.pixels - expected).max() <= 1

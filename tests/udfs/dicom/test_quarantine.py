"""Pictures that may show a name are held back before anything is decoded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence, uid
from pydicom.pixels.decoders.base import Decoder

from tests.made_dicom import made
from tests.real_dicom import FRAMES_OR_REASON, QUARANTINED, WITH_TEXT_IN_PIXELS, real_dicom
from udfs.images.dicom import frames_of
from udfs.images.picture import Rejected

PIXELS = np.arange(256, dtype=np.uint16).reshape(16, 16)
ULTRASOUND: dict[str, Any] = {"SOPClassUID": uid.UltrasoundImageStorage, "Modality": "US"}


def regions(*corners: tuple[int, int, int, int]) -> Sequence:
    """Regions of ultrasound by left, top, right and bottom, all included."""
    items = []
    for left, top, right, bottom in corners:
        item = Dataset()
        item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
        items.append(item)
    return Sequence(items)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({}, None),
        ({"BurnedInAnnotation": "NO"}, None),
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"BurnedInAnnotation": "yes "}, "burned_in_annotation"),
        ({"BurnedInAnnotation": "MAYBE"}, "burned_in_annotation"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable_visual_features"),
        ({"RecognizableVisualFeatures": "NO"}, None),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, "secondary_capture"),
        (
            {
                "SOPClassUID": uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
                "BurnedInAnnotation": "NO",
            },
            "secondary_capture",
        ),
        ({"ConversionType": "DF"}, "secondary_capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary_capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, None),
        (ULTRASOUND, "may_hold_text"),
        (ULTRASOUND | {"BurnedInAnnotation": "NO"}, None),
        (
            ULTRASOUND
            | {"BurnedInAnnotation": "NO", "SequenceOfUltrasoundRegions": regions((0, 0, 15, 12))},
            "may_hold_text",
        ),
        (
            ULTRASOUND
            | {
                "BurnedInAnnotation": "NO",
                "SequenceOfUltrasoundRegions": regions((0, 0, 7, 15), (8, 0, 15, 15)),
            },
            None,
        ),
        (
            ULTRASOUND
            | {"BurnedInAnnotation": "NO", "SequenceOfUltrasoundRegions": Sequence([Dataset()])},
            "may_hold_text",
        ),
        ({"SOPClassUID": uid.VLEndoscopicImageStorage, "Modality": "ES"}, "may_hold_text"),
        ({"Modality": "US"}, "may_hold_text"),
        ({"Modality": None}, "may_hold_text"),
        ({"SOPClassUID": "1.2.3.4"}, "may_hold_text"),
        ({"SOPClassUID": None}, "may_hold_text"),
    ],
)
def test_what_is_held_back(elements: dict[str, Any], reason: str | None) -> None:
    content = made(PIXELS, **elements)
    if reason is None:
        assert len(frames_of(content)) == 1
        return
    with pytest.raises(Rejected) as rejected:
        frames_of(content)
    assert rejected.value.reason == reason


def test_regions_of_a_huge_picture_cost_nothing() -> None:
    content = made(
        PIXELS,
        **ULTRASOUND,
        BurnedInAnnotation="NO",
        Rows=65535,
        Columns=65535,
        SequenceOfUltrasoundRegions=regions((0, 0, 65534, 65000), (0, 300, 65534, 65534)),
    )
    tracemalloc.start()
    with pytest.raises(Rejected, match="too_many_pixels"):
        frames_of(content)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_coloured_ct_must_say_that_it_has_no_text() -> None:
    colours = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(Rejected, match="may_hold_text"):
        frames_of(made(colours))
    assert len(frames_of(made(colours, BurnedInAnnotation="NO"))) == 1


def test_real_pictures_with_text_are_never_decoded(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise AssertionError("a picture that is held back was decoded")

    held_back = [n for n, expected in FRAMES_OR_REASON.items() if expected in QUARANTINED]
    assert set(WITH_TEXT_IN_PIXELS) < set(held_back)
    monkeypatch.setattr(Decoder, "iter_array", fail)
    monkeypatch.setattr("udfs.images.dicom.decode_12_bit_jpeg", fail)
    for name in held_back:
        with pytest.raises(Rejected) as rejected:
            frames_of(real_dicom(shared_data, name))
        assert rejected.value.reason == FRAMES_OR_REASON[name]

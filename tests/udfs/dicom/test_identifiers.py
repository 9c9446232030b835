"""No identifier leaves a DICOM file: one is planted in every text element and looked for."""

from __future__ import annotations

import logging
import traceback
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.planted import NEEDED_TO_DRAW, Planted, planted_file
from tests.real_dicom import FRAMES_OR_REASON, real_dicom
from udfs.dicom.headers import header_of
from udfs.dicom.keys import record_of_path
from udfs.images.dicom import frames_of
from udfs.images.picture import Rejected

KEY = b"0123456789abcdef0123456789abcdef"
WITH_DATA_SET = [n for n in FRAMES_OR_REASON if n != "no_meta.dcm"]
DRAWN = [n for n, expected in FRAMES_OR_REASON.items() if isinstance(expected, int)]


def outputs_of(content: bytes) -> tuple[list[bytes], int]:
    """Everything that comes of a file: header, pictures in memory and encoded, or the errors."""
    outputs, pictures = [], 0
    try:
        outputs.append(repr(header_of(content, KEY)).encode())
    except Rejected as rejected:
        outputs.append("".join(traceback.format_exception(rejected)).encode())
    try:
        for picture in frames_of(content):
            pictures += 1
            outputs += [repr(picture).encode(), picture.pixels.tobytes()]
            for kind in ("PNG", "JPEG"):
                buffer = BytesIO()
                Image.fromarray(picture.pixels).save(buffer, kind)
                outputs.append(buffer.getvalue())
                with Image.open(buffer) as image:
                    assert not image.getexif()
                    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    except Rejected as rejected:
        outputs.append("".join(traceback.format_exception(rejected)).encode())
    return outputs, pictures


def test_the_search_finds_what_is_there() -> None:
    plant = Planted()
    name, day = plant("PN", "PatientName"), plant("DA", "StudyDate")
    assert plant.found_in(b"xx" + name.encode() + b"yy") == {name: "PatientName"}
    assert plant.found_in(name.encode("utf-16")) == {name: "PatientName"}
    assert plant.found_in(b"on 1931-03-02") == {f"{day[:4]}-{day[4:6]}-{day[6:]}": "StudyDate"}
    assert plant.found_in(b"nothing") == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_DATA_SET)
def test_planted_in_every_element(
    shared_data: Path,
    name: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    content, plant = planted_file(real_dicom(shared_data, name))
    in_the_file = {text for text in plant.where if "-" not in text}
    assert len(in_the_file) > 3500
    if name != "image_dfl.dcm":  # deflated
        assert set(plant.found_in(content)) == in_the_file
    caplog.set_level(logging.DEBUG)
    capfd.readouterr()
    outputs, _ = outputs_of(content)
    said = [*capfd.readouterr(), caplog.text, *(str(w.message) for w in recwarn)]
    assert plant.found_in(*outputs, *(s.encode() for s in said)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_planted_in_every_element_of_a_picture_that_is_drawn(
    shared_data: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content, plant = planted_file(real_dicom(shared_data, name), keep=NEEDED_TO_DRAW)
    header = header_of(content, KEY)
    assert header.patient_id is not None
    assert {"StudyDate", "SeriesDate", "ContentDate"} <= set(header.fields)  # moved
    capfd.readouterr()
    outputs, pictures = outputs_of(content)
    assert pictures == FRAMES_OR_REASON[name]
    said = capfd.readouterr()
    assert plant.found_in(*outputs, said.out.encode(), said.err.encode()) == {}


def test_planted_in_the_name_of_the_file() -> None:
    plant = Planted()
    path = f"{plant('LO', 'folder')}/{plant('LO', 'file')}.dcm"
    assert plant.found_in(record_of_path(KEY, path).encode()) == {}

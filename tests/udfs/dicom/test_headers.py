"""What of a header is kept."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid

from tests.made_dicom import made
from tests.real_dicom import FRAMES_OR_REASON, real_dicom
from udfs.dicom.headers import KEPT_DATES, KEPT_NUMBERS, KEPT_WORDS, Header, header_of
from udfs.dicom.keys import checked_key, keyed_hash, record_of_path, shift_days
from udfs.images.picture import Rejected

KEY = b"0123456789abcdef0123456789abcdef"
PIXELS = np.zeros((4, 6), dtype=np.uint16)


def header(**elements: Any) -> Header:
    return header_of(made(PIXELS, **elements), KEY)


def test_every_real_header_is_read(shared_data: Path) -> None:
    headers = {}
    for name in FRAMES_OR_REASON:
        if name == "no_meta.dcm":
            with pytest.raises(Rejected, match="not_dicom"):
                header_of(real_dicom(shared_data, name), KEY)
        else:
            headers[name] = header_of(real_dicom(shared_data, name), KEY)
    archibald = {headers[n].patient_id for n in headers if "77654033" in n}
    peter = {headers[n].patient_id for n in headers if "98892003" in n}
    assert len(archibald) == len(peter) == 1
    assert archibald != peter
    assert headers["RG1_J2KI.dcm"].body_part == "CHEST"
    assert headers["RG1_J2KI.dcm"].modality == "CR"
    assert headers["MR_truncated.dcm"] == headers["MR_small.dcm"]
    assert headers["ExplVR_BigEnd.dcm"].patient_id is None  # "Anonymized" is nobody
    for found in headers.values():
        assert set(found.fields) <= {*KEPT_WORDS, *KEPT_NUMBERS, *KEPT_DATES, "SOPClass"}


def test_words_are_kept_where_the_standard_knows_them() -> None:
    kept = header(
        Modality="MR",
        BodyPartExamined="knee ",
        ImageType=["ORIGINAL", "JOHN DOE", "AXIAL"],
        Laterality="LEFT LEG OF DOE",
        SOPClassUID=uid.MRImageStorage,
    )
    assert (kept.modality, kept.body_part) == ("MR", "KNEE")
    assert kept.fields["ImageType"] == "ORIGINAL\\AXIAL"
    assert kept.fields["SOPClass"] == "MR Image Storage"
    assert "Laterality" not in kept.fields
    unknown = header(Modality="DOE", BodyPartExamined="DOE^JOHN", SOPClassUID="1.2.3.77")
    assert (unknown.modality, unknown.body_part) == (None, None)
    assert not {"Modality", "BodyPartExamined", "SOPClass"} & set(unknown.fields)


@pytest.mark.parametrize(
    ("element", "value", "kept"),
    [
        ("PixelSpacing", ["0.12345678", "0.5"], "0.1235\\0.5"),
        ("PixelSpacing", ["0.5", "77777777"], None),
        ("KVP", "120", "120"),
        ("KVP", "19411207", None),
        ("SliceThickness", "nan", None),
        ("SliceThickness", "1e99", None),
        ("EchoTime", "2.5000001", "2.5"),
        ("FlipAngle", "-1", None),
        ("NumberOfFrames", "16383", "16380"),
    ],
)
def test_numbers_are_coarse_and_within_their_range(
    element: str, value: Any, kept: str | None
) -> None:
    assert header(**{element: value}).fields.get(element) == kept


def test_dates_move_together_into_the_past() -> None:
    one = header(StudyDate="20200110", SeriesDate="2020.01.12", ContentDate="20200230")
    other = header(StudyDate="20200301")
    moved = [date.fromisoformat(f) for f in (one.fields["StudyDate"], one.fields["SeriesDate"])]
    assert (moved[1] - moved[0]).days == 2
    assert (date.fromisoformat(other.fields["StudyDate"]) - moved[0]).days == 51
    assert 365 <= (date(2020, 1, 10) - moved[0]).days < 365 + 3650
    assert "ContentDate" not in one.fields  # there is no such day
    someone_else = header(PatientID="P-2", StudyDate="20200110")
    assert someone_else.fields["StudyDate"] != one.fields["StudyDate"]


@pytest.mark.parametrize("patient", [None, "", "  ", "ANONYMOUS", "anonymized", "0"])
def test_without_a_patient_there_is_no_id_and_no_date(patient: str | None) -> None:
    found = header(PatientID=patient, StudyDate="20200110")
    assert found.patient_id is None
    assert "StudyDate" not in found.fields
    assert found.study_id is not None


def test_ids_are_keyed_hashes() -> None:
    one = header()
    assert one.patient_id == keyed_hash(KEY, "patient", "", "P-1")
    assert one.study_id == keyed_hash(KEY, "uid", "1.2.3.4")
    assert one == header(PatientID=" P-1 ")
    assert one.patient_id != header(IssuerOfPatientID="ELSEWHERE").patient_id
    assert one.patient_id != header_of(made(PIXELS), KEY[::-1]).patient_id
    assert one.patient_id != keyed_hash(KEY, "uid", "", "P-1")
    assert len({one.patient_id, one.study_id, one.series_id, one.instance_id}) == 4


def test_names_of_records_hide_their_path() -> None:
    name = record_of_path(KEY, "DOE_JOHN/1.dcm")
    assert name == record_of_path(KEY, "DOE_JOHN/1.dcm")
    assert name != record_of_path(KEY, "DOE_JOHN/2.dcm")
    assert len(name) == 64
    assert int(name, 16)


def test_shifts_are_spread_over_ten_years() -> None:
    shifts = [shift_days(KEY, str(i)) for i in range(2000)]
    assert min(shifts) >= 365
    assert max(shifts) < 365 + 3650
    assert len(set(shifts)) > 1300


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("   ", "is not set"),
        ("short-secret", "has 12 bytes and needs 32"),
        ("abababababababababababababababababab", "repeats a few characters"),
    ],
)
def test_a_key_that_could_be_guessed_is_refused(text: str | None, error: str) -> None:
    with pytest.raises(ValueError, match=error) as refused:
        checked_key(text)
    if text and text.strip():
        assert text not in str(refused.value)


def test_a_key_of_openssl_is_taken() -> None:
    text = "8f0e4c3a2b1d5f69788796a5b4c3d2e1f00112233445566778899aabbccddeef"
    assert checked_key(text + "\n") == text.encode()

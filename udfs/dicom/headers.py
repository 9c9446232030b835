"""What is kept of a DICOM header: closed words, coarse numbers, moved dates, hashed ids.

The basic application level confidentiality profile (DICOM PS3.15, E.2) with the option "Retain
Longitudinal Temporal Information With Modified Dates" (E.3.6), turned round: the profile lists
what to take out of a header, here a header is left and what is listed is taken along. What the
profile lists is nevertheless asked of its table, in the edition that dicom-anonymizer carries, so
that an element that the standard comes to call identifying cannot stay on the list unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as profile
from pydicom import Dataset, uid
from pydicom.datadict import tag_for_keyword

from udfs.dicom import terms
from udfs.dicom.keys import keyed_hash, shift_days
from udfs.dicom.reading import numbers_of, quiet, read, text_of, texts_of
from udfs.images.picture import Rejected


class Between(NamedTuple):
    """Ends of the range that a number may have, both included."""

    low: float
    high: float


KEPT_WORDS: dict[str, frozenset[str]] = {
    "BodyPartExamined": terms.BODY_PARTS,
    "BurnedInAnnotation": terms.YES_NO,
    "ImageLaterality": terms.LATERALITIES,
    "ImageType": terms.IMAGE_KINDS,
    "Laterality": terms.LATERALITIES,
    "LossyImageCompression": terms.LOSSY,
    "MRAcquisitionType": terms.ACQUISITION_TYPES,
    "Modality": terms.MODALITIES,
    "PatientPosition": terms.PATIENT_POSITIONS,
    "ScanningSequence": terms.SCANNING_SEQUENCES,
    "ViewPosition": terms.VIEW_POSITIONS,
}
KEPT_NUMBERS: dict[str, Between] = {
    "BitsStored": Between(1, 64),
    "Columns": Between(1, 65535),
    "EchoTime": Between(0, 10_000),
    "FlipAngle": Between(0, 360),
    "ImagerPixelSpacing": Between(0.001, 100),
    "InversionTime": Between(0, 30_000),
    "KVP": Between(1, 500),
    "MagneticFieldStrength": Between(0.01, 25),
    "NumberOfFrames": Between(1, 16384),
    "PixelSpacing": Between(0.001, 100),
    "RepetitionTime": Between(0, 60_000),
    "Rows": Between(1, 65535),
    "SliceThickness": Between(0.001, 500),
    "SpacingBetweenSlices": Between(0.001, 500),
}
KEPT_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")

SIGNIFICANT_DIGITS = 4
"""A kept number has no more, so that no number of a patient fits into it."""

_NOBODY = frozenset(
    ["", "0", "ANON", "ANONYMISED", "ANONYMIZED", "ANONYMOUS", "NA", "NONE", "NULL", "UNKNOWN"]
)
_EARLIEST_YEAR = 1900


@dataclass(frozen=True)
class Header:
    """A DICOM header without what identifies; ids are HMAC-SHA256 in hexadecimal, or None.

    `modality` and `body_part` are the standard's words, None where the file has none or another.
    `fields` maps keywords of DICOM to texts: several values are parted by a backslash, numbers
    are in the standard's units, dates are ISO 8601 and moved.
    """

    patient_id: str | None
    study_id: str | None
    series_id: str | None
    instance_id: str | None
    modality: str | None
    body_part: str | None
    fields: dict[str, str]


def header_of(content: bytes, key: bytes) -> Header:
    """The header of a DICOM file, de-identified under the key (see `udfs.dicom.keys`).

    Without a patient's id, or with one that stands for nobody (`ANONYMOUS`), `patient_id` is None
    and no date is kept, because then nothing says which dates must move alike. Raises Rejected:
    `empty_file`, `not_dicom`, `truncated`, `unreadable_header`, `too_many_pixels` (deflated).
    """
    with quiet():
        dataset = read(content, pixels=False)
        try:
            return _header(dataset, key)
        except Exception:  # an element that pydicom cannot convert; its text is in the error
            raise Rejected("unreadable_header") from None


def _header(dataset: Dataset, key: bytes) -> Header:
    patient_id = _patient(dataset, key)
    fields = _words(dataset) | _numbers(dataset)
    if patient_id is not None:
        fields |= _dates(dataset, shift_days(key, patient_id))
    if sop_class := _class_name(dataset):
        fields["SOPClass"] = sop_class
    return Header(
        patient_id=patient_id,
        study_id=_uid_hash(dataset, "StudyInstanceUID", key),
        series_id=_uid_hash(dataset, "SeriesInstanceUID", key),
        instance_id=_uid_hash(dataset, "SOPInstanceUID", key),
        modality=fields.get("Modality"),
        body_part=fields.get("BodyPartExamined"),
        fields=dict(sorted(fields.items())),
    )


def _patient(dataset: Dataset, key: bytes) -> str | None:
    patient = "\\".join(texts_of(dataset, "PatientID"))
    if patient.upper() in _NOBODY:
        return None
    return keyed_hash(key, "patient", text_of(dataset, "IssuerOfPatientID"), patient)


def _uid_hash(dataset: Dataset, name: str, key: bytes) -> str | None:
    value = text_of(dataset, name)
    return keyed_hash(key, "uid", value) if value else None


def _words(dataset: Dataset) -> dict[str, str]:
    kept = {}
    for name, allowed in KEPT_WORDS.items():
        words = [w for w in (t.upper() for t in texts_of(dataset, name)) if w in allowed]
        if words:
            kept[name] = "\\".join(words)
    return kept


def _numbers(dataset: Dataset) -> dict[str, str]:
    kept = {}
    for name, (low, high) in KEPT_NUMBERS.items():
        numbers = numbers_of(dataset, name)
        if 1 <= len(numbers) <= 2 and all(low <= n <= high for n in numbers):
            kept[name] = "\\".join(_coarse(n) for n in numbers)
    return kept


def _coarse(number: float) -> str:
    return f"{float(f'{number:.{SIGNIFICANT_DIGITS}g}'):.10g}"


def _dates(dataset: Dataset, days: int) -> dict[str, str]:
    kept = {}
    for name in KEPT_DATES:
        found = _date(text_of(dataset, name))
        if found is not None:
            kept[name] = (found - timedelta(days=days)).isoformat()
    return kept


def _date(text: str) -> date | None:
    """A date as YYYYMMDD, or YYYY.MM.DD of files before version 3; else None."""
    digits = text.replace(".", "")
    if len(digits) != 8 or not digits.isascii() or not digits.isdigit():
        return None
    try:
        found = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return found if found.year >= _EARLIEST_YEAR else None


def _class_name(dataset: Dataset) -> str | None:
    found = uid.UID(text_of(dataset, "SOPClassUID"))
    return found.name if found in uid.UID_dictionary else None


def _check_against_profile() -> None:
    """The profile lets the words and numbers stay, and knows the dates as what has to go."""
    listed = {(tag[0] << 16) | tag[1] for tag in profile.ALL_TAGS if len(tag) == 2}
    for name in (*KEPT_WORDS, *KEPT_NUMBERS, *KEPT_DATES):
        if (tag_for_keyword(name) in listed) is not (name in KEPT_DATES):
            raise RuntimeError(f"{name} is not what PS3.15, table E.1-1 takes it for")


_check_against_profile()

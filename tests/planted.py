"""Identifiers planted in every text element of a DICOM file, and the search for them.

Each element gets one of its own, in the form that its type asks for, so that what is found tells
which element it came from.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from io import BytesIO

from pydicom import DataElement, Dataset, FileMetaDataset, Sequence, dcmread
from pydicom.datadict import DicomDictionary
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pydicom.valuerep import VR

from tests.made_dicom import written
from udfs.dicom.reading import quiet

TEXTS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
BYTES = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
NEEDED_TO_DRAW = frozenset(
    {
        "BurnedInAnnotation",
        "ConversionType",
        "ImageType",
        "Modality",
        "NumberOfFrames",
        "PhotometricInterpretation",
        "PixelData",
        "RecognizableVisualFeatures",
        "SOPClassUID",
        "SpecificCharacterSet",
    }
)
"""Without the values that they have, a file is no picture that may be drawn."""

_OF_THEIR_OWN = ("AS", "DA", "DT", "TM", "UI")
_LOOKS_PLANTED = re.compile(
    rb"ZQ\d{5}X(?:\^JOHN)?|1931-\d\d-\d\d|1931\d{8}\.\d{6}|1931\d{4}|71\d{7}(?:\.25)?"
    rb"|1\.2\.826\.0\.1\.3680043\.\d{7}\.1|\d{4}17\.\d{6}|\d{3}Y"
)
"""Every form of `_text`; what matches is planted only where it was handed out."""

_PIXELS = Tag("PixelData")
_TABLES = ("LookupTable", "LUT")  # of the palette: they are pixels
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate")
_PRIVATE_GROUP = 0x0099


class Planted:
    """Hands out identifiers, and remembers in what element each was planted."""

    def __init__(self) -> None:
        self.where: dict[str, str] = {}
        self._numbers: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def __call__(self, vr: str, place: str) -> str:
        kind = vr if vr in _OF_THEIR_OWN else ""
        text = _text(vr, next(self._numbers[kind]))
        assert text not in self.where
        self.where[text] = place
        if vr == "DA":  # also as a date is printed
            self.where[f"{text[:4]}-{text[4:6]}-{text[6:]}"] = place
        return text

    def found_in(self, *outputs: bytes) -> dict[str, str]:
        """What stands in the outputs, in 8 or 16 bits a character, and where it is from."""
        found = {}
        for output in outputs:
            for text in _LOOKS_PLANTED.findall(output) + _LOOKS_PLANTED.findall(
                output.replace(b"\0", b"")
            ):
                if (place := self.where.get(text.decode())) is not None:
                    found[text.decode()] = place
        return found


def _text(vr: str, number: int) -> str:
    match vr:
        case "DA":
            assert number < 300  # less than dates are moved: none lands on another
            return (date(1931, 3, 1) + timedelta(days=number)).strftime("%Y%m%d")
        case "TM":
            return f"{number % 24:02}{number % 60:02}17.{number:06}"
        case "DT":
            return f"19311217{number % 24:02}17.{number:06}"
        case "AS":
            return f"{number % 1000:03}Y"
        case "IS":
            return str(710_000_000 + number)
        case "DS":
            return f"{710_000_000 + number}.25"
        case "UI":
            return f"1.2.826.0.1.3680043.{7100000 + number}.1"
        case "PN":
            return f"ZQ{number:05}X^JOHN"
    return f"ZQ{number:05}X"


def planted_file(content: bytes, *, keep: frozenset[str] = frozenset()) -> tuple[bytes, Planted]:
    """The file with an identifier in every text element, private and nested ones included.

    All text elements that the standard knows are added, each also inside a sequence, as are
    private ones of every type, bytes of unknown type, an icon's and a curve's bytes, the meta
    header, and the preamble. Elements of the names in `keep` stay as they are.
    """
    plant = Planted()
    with quiet():
        dataset = dcmread(BytesIO(content))
        syntax = dataset.file_meta.TransferSyntaxUID
        _plant_over(dataset, plant, keep, "")
        _plant_all_known(dataset, plant, keep, "")
        item = Dataset()
        _plant_all_known(item, plant, frozenset(), "ReasonForRequestedProcedureCodeSequence.")
        dataset.ReasonForRequestedProcedureCodeSequence = Sequence([item])
        _plant_private(dataset, plant)
        meta = FileMetaDataset()
        meta.ImplementationClassUID = UID(plant("UI", "ImplementationClassUID"))
        for name in ("ImplementationVersionName", "SourceApplicationEntityTitle"):
            setattr(meta, name, plant("SH", name))
        meta.PrivateInformationCreatorUID = UID(plant("UI", "PrivateInformationCreatorUID"))
        meta.PrivateInformation = plant("LO", "PrivateInformation").encode()
        preamble = plant("LO", "preamble").encode().ljust(128, b" ")
        planted = written(dataset, syntax, meta)
    return preamble + planted[128:], plant


def _plant_over(dataset: Dataset, plant: Planted, keep: frozenset[str], path: str) -> None:
    for element in list(dataset):
        place = f"{path}{element.tag} {element.keyword}"
        if element.VR == "SQ":
            for item in element.value or []:
                _plant_over(item, plant, keep, f"{place}.")
        elif not _must_stay(element, keep):
            _set(dataset, element.tag, element.VR, plant, place)


def _must_stay(element: DataElement, keep: frozenset[str]) -> bool:
    is_picture = element.tag == _PIXELS or any(t in element.keyword for t in _TABLES)
    is_text = element.VR in (*TEXTS, *BYTES, "DA", "DT", "TM", "AS", "IS", "DS", "UI")
    return is_picture or not is_text or element.keyword in keep


def _plant_all_known(dataset: Dataset, plant: Planted, keep: frozenset[str], path: str) -> None:
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        is_new = tag > 0x0008_0000 and tag not in dataset and keyword not in keep
        if is_new and vr in (*TEXTS, "TM", "AS", "UI", "DT") and keyword:
            _set(dataset, Tag(tag), vr, plant, f"{path}{keyword}")
    for keyword in (
        "StudyDate",
        "SeriesDate",
        "AcquisitionDate",
        "ContentDate",
        "PatientBirthDate",
    ):
        if keyword not in dataset:
            _set(dataset, Tag(keyword), "DA", plant, f"{path}{keyword}")
    dataset.add_new((0x5000, 0x3000), "OW", plant("LO", f"{path}curve").encode() + b" ")
    dataset.add_new((0x6002, 0x0022), "LO", plant("LO", f"{path}overlay description"))


def _plant_private(dataset: Dataset, plant: Planted) -> None:
    dataset.add_new((_PRIVATE_GROUP, 0x0010), "LO", plant("LO", "private creator"))
    for offset, vr in enumerate(_private_types()):
        _set(dataset, Tag(_PRIVATE_GROUP, 0x1000 + offset), vr, plant, f"private {vr}")
    item, inner = Dataset(), Dataset()
    _set(inner, Tag(_PRIVATE_GROUP, 0x1001), "LO", plant, "private, nested twice")
    item.add_new((_PRIVATE_GROUP, 0x1002), "SQ", Sequence([inner]))
    dataset.add_new((_PRIVATE_GROUP, 0x10F0), "SQ", Sequence([item]))


def _private_types() -> Iterator[str]:
    yield from (*TEXTS, *BYTES, "DA", "DT", "TM", "AS", "IS", "DS", "UI")


def _set(dataset: Dataset, tag: BaseTag, vr: str, plant: Planted, place: str) -> None:
    text = plant("LO" if vr in BYTES else vr, place)
    if vr in BYTES:
        dataset.add_new(tag, vr, text.encode() + bytes(-len(text) % 8))
    else:
        dataset.add_new(tag, VR(vr), text)

"""DICOM files as data sets, read within limits and without a word in any log.

What pydicom warns of quotes the value that it warns of, which may be a patient's name. So nothing
that it says is shown, and errors become a reason without their cause.
"""

from __future__ import annotations

import logging
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from pydicom import Dataset, config, dcmread
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from udfs.images.picture import Rejected

MAX_INFLATED_BYTES = 1 << 30
"""Size to which a data set may grow that was delivered deflated."""

_PREAMBLE_BYTES = 128
_FIRST_GROUPS = (0x0002, 0x0008)  # what a data set without preamble begins with
_IDENTIFYING = ("SOPClassUID", "Modality", "StudyInstanceUID", "PatientID")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from checking values, and from logging and warning about them."""
    logger = logging.getLogger("pydicom")
    disabled, mode = logger.disabled, config.settings.reading_validation_mode
    logger.disabled = True
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled
        config.settings.reading_validation_mode = mode


def read(content: bytes, *, pixels: bool = True) -> Dataset:
    """The data set of a DICOM file, with or without preamble and file meta header.

    `pixels=False` stops before the pixel data. Raises Rejected with `empty_file`, `not_dicom`,
    `truncated`, `unreadable_header`, or `too_many_pixels` where a deflated file would grow beyond
    `MAX_INFLATED_BYTES`. To be called, and its result used, under `quiet`.
    """
    if not content:
        raise Rejected("empty_file")
    has_magic = content[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM"
    if not has_magic and not _begins_like_a_data_set(content):
        raise Rejected("not_dicom")
    try:
        _check_inflated_size(content)
        dataset = dcmread(BytesIO(content), force=True, stop_before_pixels=not pixels)
        if not dataset:
            _tell_why_empty(content)
        plausible = has_magic or sum(name in dataset for name in _IDENTIFYING) >= 2
    except Rejected:
        raise
    except Exception:  # a broken header breaks pydicom in every way that Python knows
        raise Rejected("unreadable_header") from None
    if not plausible:
        raise Rejected("not_dicom")
    return dataset


def text_of(dataset: Dataset, name: str) -> str:
    """First value of a text element, stripped; empty where absent or unreadable."""
    values = texts_of(dataset, name)
    return values[0] if values else ""


def texts_of(dataset: Dataset, name: str) -> list[str]:
    """All values of a text element, stripped; none where absent or unreadable."""
    try:
        value = dataset.get(name)
        if value is None:
            return []
        values = [value] if isinstance(value, str) else list(value)
        return [str(v).strip(" \0\t\r\n") for v in values]
    except Exception:
        return []


def number_of(dataset: Dataset, name: str) -> float | None:
    """First value of an element of numbers, binary or text; None where it holds no number."""
    numbers = numbers_of(dataset, name)
    return numbers[0] if numbers else None


def numbers_of(dataset: Dataset, name: str) -> list[float]:
    """All values of an element of numbers; none where one of them is not a finite number."""
    try:
        value = dataset.get(name)
        if value is None or isinstance(value, bytes):
            return []
        values = [value] if isinstance(value, str | int | float) else list(value)
        numbers = [float(v) for v in values]
    except Exception:
        return []
    return numbers if all(math.isfinite(n) for n in numbers) else []


def item_of(dataset: Dataset, name: str, index: int = 0) -> Dataset | None:
    """Item of a sequence; None where there is none."""
    try:
        return dataset[name].value[index] if name in dataset else None
    except Exception:
        return None


def _begins_like_a_data_set(content: bytes) -> bool:
    if len(content) < 8:
        return False
    first = (int.from_bytes(content[:2], order) for order in ("little", "big"))
    return any(group in _FIRST_GROUPS for group in first)


def _tell_why_empty(content: bytes) -> None:
    """Raise what pydicom hides: where an element has no end or no type, it gives up all others."""
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.RAISE
    try:
        dcmread(BytesIO(content), force=True)
    except EOFError:
        raise Rejected("truncated") from None
    finally:
        config.settings.reading_validation_mode = mode


def _check_inflated_size(content: bytes) -> None:
    """Refuse a bomb: pydicom inflates without a limit."""
    if str(DeflatedExplicitVRLittleEndian).encode() not in content:
        return
    file = BytesIO(content)
    read_preamble(file, force=True)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(file.read(), MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise Rejected("too_many_pixels")

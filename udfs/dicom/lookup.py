"""Lookup tables of DICOM, by one rule for modality, VOI and palette (PS3.3, C.11.1.1, C.7.6.3.1.5).

Here and not by `pydicom.pixels.processing`, which indexes a table by the type of its *entries*: a
table of 4096 8-bit entries, common in computed radiography, wraps there every 256 entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset

from udfs.dicom.reading import numbers_of
from udfs.images.picture import Rejected

BAD_LOOKUP_TABLE = "bad_lookup_table"


@dataclass(frozen=True)
class LookupTable:
    """Entries (n,) for stored values from `first` on, and the greatest value they may have."""

    first: int
    entries: np.ndarray
    greatest: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """The entries of values, of the same shape; values beyond an end take the entry there."""
        index = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[index]


def lookup_table(
    dataset: Dataset, descriptor: str, data: str, *, little_endian: bool, signed: bool
) -> LookupTable:
    """The table in the elements of these names.

    `signed`: the values that it is for are. Raises Rejected (`bad_lookup_table`).
    """
    numbers = numbers_of(dataset, descriptor)
    if len(numbers) != 3:
        raise Rejected(BAD_LOOKUP_TABLE)
    length, first, bits = (int(n) for n in numbers)
    length = length or 1 << 16
    if not 0 < length <= 1 << 16 or not 1 <= bits <= 16:
        raise Rejected(BAD_LOOKUP_TABLE)
    if signed and first >= 1 << 15:  # written as unsigned
        first -= 1 << 16
    if f"Segmented{data}" in dataset:
        value = _value(dataset, f"Segmented{data}")
        if not isinstance(value, bytes):
            raise Rejected(BAD_LOOKUP_TABLE)
        dtype = np.dtype("u1" if bits <= 8 else "<u2" if little_endian else ">u2")
        segments = np.frombuffer(value, dtype, len(value) // dtype.itemsize)
        entries = _entries(_expanded(segments, length), length, little_endian)
    else:
        entries = _entries(_value(dataset, data), length, little_endian)
    greatest = (1 << bits) - 1
    return LookupTable(first, np.minimum(entries, greatest), greatest)


def shares(values: np.ndarray, *tables: LookupTable) -> list[np.ndarray]:
    """Entries of each table for values, as float32 shares (0 to 1) of the greatest entry.

    Tables whose entries have 8 bits and are described as having 16 count as what they are.
    """
    greatest = max(t.greatest for t in tables)
    if greatest > 255 and all(t.entries.max() <= 255 for t in tables):
        greatest = 255
    return [t.of(values).astype(np.float32) / np.float32(greatest) for t in tables]


def _value(dataset: Dataset, data: str) -> Any:
    try:
        return dataset[data].value
    except Exception:
        raise Rejected(BAD_LOOKUP_TABLE) from None


def _entries(value: Any, length: int, little_endian: bool) -> np.ndarray:
    if not isinstance(value, bytes):
        found = np.atleast_1d(np.asarray(value, dtype=np.int64)) & 0xFFFF
    elif len(value) < 2 * length:
        found = np.frombuffer(value, np.uint8)
    else:
        found = np.frombuffer(value[: 2 * length], "<u2" if little_endian else ">u2")
    if len(found) < length:
        raise Rejected(BAD_LOOKUP_TABLE)
    return found[:length].astype(np.uint16)


def _expanded(segments: np.ndarray, length: int) -> np.ndarray:
    """Entries of a segmented table of discrete and linear segments (PS3.3, C.7.9.2)."""
    entries: list[int] = []
    at = 0
    while len(entries) < length and at + 2 <= len(segments):
        kind, count = int(segments[at]), int(segments[at + 1])
        at += 2
        if kind == 0 and count:
            entries += segments[at : at + count].tolist()
            at += count
        elif kind == 1 and count and entries and at < len(segments):
            last, at = int(segments[at]), at + 1
            line = np.linspace(entries[-1], last, count + 1)[1:]
            entries += np.rint(line).astype(int).tolist()
        else:  # indirect segments repeat others, which nothing seen here does
            raise Rejected(BAD_LOOKUP_TABLE)
    return np.asarray(entries, dtype=np.int64)

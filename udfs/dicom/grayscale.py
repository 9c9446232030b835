"""Stored values of a monochrome DICOM frame to the gray that a viewer shows (PS3.3, C.11)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from udfs.dicom.lookup import lookup_table, shares
from udfs.dicom.reading import item_of, number_of, text_of

RANGE_PERCENTILES = (0.1, 99.9)
"""Where a file has no window, these percentiles of its values become black and white: a metal
clip or one dead pixel does not turn the rest gray."""


@dataclass(frozen=True)
class Stored:
    """How the values of a data set are stored."""

    bits: int
    signed: bool
    little_endian: bool


def gray_of(
    stored: np.ndarray, dataset: Dataset, frame: int, how: Stored, *, inverted: bool
) -> np.ndarray:
    """What a viewer shows of stored values (h, w) of any integer type: (h, w) uint8.

    Modality lookup table or rescale; then the VOI lookup table, else the first window, else the
    range of the values; padding is black. `inverted` is for MONOCHROME1. Transforms may stand in
    the functional groups of the frame, of all frames, or in the data set, in this order. A
    window without a meaning, or in which nothing of the picture shows, counts as none. Raises
    Rejected (`bad_lookup_table`).
    """
    values = _modality_values(
        stored, _functional_group(dataset, frame, "PixelValueTransformationSequence"), how
    )
    padding = _padding(stored, dataset, how)
    voi = _functional_group(dataset, frame, "FrameVOILUTSequence")
    shown = _by_lookup_table(values, voi, how)
    if shown is None:
        shown = _by_window(values, voi)
    if shown is None:
        shown = _by_range(values, padding, stored is values, how)
    gray = np.rint(shown * np.float32(255)).astype(np.uint8)
    if inverted:
        gray = 255 - gray
    if padding is not None:
        gray[padding] = 0
    return gray


def _functional_group(dataset: Dataset, frame: int, name: str) -> Dataset:
    for groups, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        group = item_of(dataset, groups, index)
        item = None if group is None else item_of(group, name)
        if item is not None:
            return item
    return dataset


def _modality_values(stored: np.ndarray, dataset: Dataset, how: Stored) -> np.ndarray:
    """Values in the modality's unit, as float32; `stored` itself where nothing transforms it."""
    item = item_of(dataset, "ModalityLUTSequence")
    if item is not None:
        table = lookup_table(
            item,
            "LUTDescriptor",
            "LUTData",
            little_endian=how.little_endian,
            signed=how.signed,
        )
        return table.of(stored).astype(np.float32)
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    if not slope or (slope == 1 and not intercept):  # a slope of 0 would erase the picture
        return stored
    values: np.ndarray = stored.astype("f8" if how.bits > 24 else "f4")  # digits of a float32
    return (values * slope + (intercept or 0.0)).astype(np.float32, copy=False)


def _padding(stored: np.ndarray, dataset: Dataset, how: Stored) -> np.ndarray | None:
    """Where a frame (h, w) is padded around its picture; None: nowhere, or everywhere."""
    value = number_of(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = number_of(dataset, "PixelPaddingRangeLimit")
    ends = [_as_stored(v, how) for v in (value, value if limit is None else limit)]
    padding = (stored >= min(ends)) & (stored <= max(ends))
    return padding if padding.any() and not padding.all() else None


def _as_stored(value: float, how: Stored) -> float:
    """A padding value written as unsigned in a file of signed values, or the other way round."""
    if how.signed and value >= 1 << 15:
        return value - (1 << 16)
    if not how.signed and value < 0:
        return value + (1 << 16)
    return value


def _by_lookup_table(values: np.ndarray, voi: Dataset, how: Stored) -> np.ndarray | None:
    item = item_of(voi, "VOILUTSequence")
    if item is None:
        return None
    table = lookup_table(
        item,
        "LUTDescriptor",
        "LUTData",
        little_endian=how.little_endian,
        signed=values.min() < 0,
    )
    return shares(np.rint(values), table)[0]


def _by_window(values: np.ndarray, voi: Dataset) -> np.ndarray | None:
    """The first window, by the formulas of C.11.2.1.2 and C.11.2.1.3; 0 to 1."""
    centre, width = number_of(voi, "WindowCenter"), number_of(voi, "WindowWidth")
    function = text_of(voi, "VOILUTFunction").upper() or "LINEAR"
    if centre is None or width is None or width <= 0:
        return None
    values = values.astype(np.float32)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            shown = 1 / (1 + np.exp(-4 * (values - np.float32(centre)) / np.float32(width)))
    else:
        if function != "LINEAR_EXACT":
            centre, width = centre - 0.5, max(width - 1, 1e-3)
        shown = np.clip((values - np.float32(centre)) / np.float32(width) + np.float32(0.5), 0, 1)
    is_blank = shown.min() == shown.max() and values.min() != values.max()
    return None if is_blank else shown


def _by_range(
    values: np.ndarray, padding: np.ndarray | None, is_stored: bool, how: Stored
) -> np.ndarray:
    if is_stored and how.bits <= 8 and not how.signed:  # values of a screen: nothing to stretch
        return values.astype(np.float32) / np.float32((1 << how.bits) - 1)
    values = values.astype(np.float32)
    inside = values if padding is None else values[~padding]
    low, high = np.percentile(inside, RANGE_PERCENTILES)
    if low == high:
        low, high = inside.min(), inside.max()
    if low == high:
        return np.zeros(values.shape, np.float32)
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)

"""What is measured of the gray values of an image."""

from __future__ import annotations

import numpy as np
from PIL import Image

_EVERY = 4
# A page with one short word on it has 0.02 bits; noise of a scanner on an empty page has a range
# of a few gray values.
_LEAST_BITS = 0.02
_LEAST_RANGE = 8


def histogram(gray: np.ndarray) -> np.ndarray:
    """(256,) counts of the gray values of (height, width) uint8, in every fourth row.

    That is enough for an entropy, and it is a quarter of the time.
    """
    return np.array(Image.fromarray(np.ascontiguousarray(gray[::_EVERY])).histogram())


def entropy_bits(counts: np.ndarray) -> float:
    """Shannon's entropy of a histogram: 0 for one value, 8 for 256 equally frequent ones."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def is_blank(counts: np.ndarray, entropy: float) -> bool:
    """Whether a histogram, with its entropy in bits, is that of an image that shows nothing."""
    present = np.flatnonzero(counts)
    return bool(present[-1] - present[0] < _LEAST_RANGE or entropy < _LEAST_BITS)

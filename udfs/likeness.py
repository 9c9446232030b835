"""Small gray pictures of images, and how much two of them differ."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from udfs.images.phash import SIDE_PX, square

BYTES = SIDE_PX * SIDE_PX
"""Of a thumbnail: 32 x 32 gray values."""

_LEAST_CONTRAST = 4.0
"""Gray values; what varies less is noise, and is not blown up."""


def thumbnail(image: bytes) -> bytes:
    """The thumbnail of a JPEG or PNG, row by row."""
    with Image.open(BytesIO(image)) as opened:
        # A JPEG is decoded at an eighth of its size, if that is enough.
        opened.draft("L", (2 * SIDE_PX, 2 * SIDE_PX))
        return square(np.asarray(opened.convert("L"))).tobytes()


def differences(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean absolute difference of thumbnails, (n, 1024) uint8 each, to (n,) float32.

    Of each thumbnail the mean is taken off and the rest divided by its standard deviation, so that
    brightness and contrast do not count. 0: the same; about 1.1: nothing in common.
    """
    apart = np.abs(_normalised(ones) - _normalised(others))
    return apart.mean(axis=1, dtype=np.float32)


def _normalised(thumbnails: np.ndarray) -> np.ndarray:
    values = thumbnails.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(values.std(axis=1, keepdims=True), _LEAST_CONTRAST)

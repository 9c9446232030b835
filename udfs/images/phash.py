"""A 64-bit perceptual hash of an image: pictures that look alike have hashes few bits apart.

The method is the usual one (Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010): gray values brought to 32 x 32, their discrete cosine transform, and one bit for
each of the 8 x 8 lowest frequencies, set where it is above the median of them. Resizing is in
whole numbers and the transform in float64, rounded, so that a hash does not depend on the
processor. Where Pillow has to resize (see `resized`) a gray value may be two off, and bits of a
hash with it.
"""

from __future__ import annotations

import numpy as np

from udfs.images.resized import resized

SIDE_PX = 32
_LOW = 8
# Coefficients of symmetric pictures are zero but for rounding, which differs between processors.
_DECIMALS = 6


def _cosines() -> np.ndarray:
    """(8, 32): the lowest rows of the type II discrete cosine transform, without its factors."""
    frequency = np.arange(_LOW)[:, None]
    place = np.arange(SIDE_PX)[None, :] + 0.5
    return np.cos(np.pi / SIDE_PX * frequency * place)


_COSINES = _cosines()


def phash(gray: np.ndarray) -> int:
    """The hash of one image, (height, width) uint8 of any size, as a signed 64-bit integer."""
    return int(phash_of_squares(square(gray)[None])[0])


def square(gray: np.ndarray) -> np.ndarray:
    """(height, width) uint8, brought to (32, 32) uint8 with antialias."""
    return resized(gray, SIDE_PX, SIDE_PX, "bilinear")


def phash_of_squares(squares: np.ndarray) -> np.ndarray:
    """Hashes of many images at once: (n, 32, 32) gray values to (n,) int64."""
    low = _COSINES @ squares.astype(np.float64) @ _COSINES.T
    low = low.round(_DECIMALS).reshape(-1, _LOW * _LOW)
    ranked = np.sort(low, axis=1)
    bits = low > ranked[:, [_LOW * _LOW // 2 - 1, _LOW * _LOW // 2]].mean(axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">i8").astype(np.int64).ravel()


def bits_apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Hamming distances of two arrays of hashes (int64), which may broadcast."""
    return np.bitwise_count((one ^ other).view(np.uint64))

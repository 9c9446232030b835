"""A picture at the training size: gray where it shows no colour, never upscaled, antialiased."""

from __future__ import annotations

import io

import numpy as np
import PIL
from PIL import Image

from udfs.images.jpeg import CODEC as JPEG_CODEC
from udfs.images.jpeg import encode_jpeg
from udfs.images.resized import resized

ENCODINGS = ("jpeg", "png")

# JPEG makes of gray an RGB whose channels differ by a few values; here in halves of them.
_TOLERANCE = 2
_EVERY = 4


def normalised(
    pixels: np.ndarray, longest_side_px: int, source_px: tuple[int, int] | None = None
) -> np.ndarray:
    """`pixels`, gray or RGB, gray where they may be, of a longest side within `longest_side_px`.

    `source_px` is the height and width of the source, where it was decoded smaller already: the
    result has its proportions. How it is resampled: see `resized`.
    """
    if pixels.ndim == 3 and is_gray(pixels):
        pixels = pixels[..., 1]
    height, width = source_px or pixels.shape[:2]
    scale = min(1.0, longest_side_px / max(height, width))
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    if (rows, columns) == pixels.shape[:2]:
        return np.ascontiguousarray(pixels)
    return resized(pixels, columns, rows)


def is_gray(pixels: np.ndarray) -> bool:
    """Whether RGB `pixels` show no colour, looked for in every fourth row."""
    width = pixels.shape[1]
    # Halved, so that no difference is too large for 8 bits.
    rows = (pixels[::_EVERY] >> 1).reshape(-1, width * 3)
    # Neighbours in memory: red to green, green to blue, and blue to the next red, which is put out.
    steps = rows[:, 1:] - rows[:, :-1]
    steps += _TOLERANCE
    steps &= _blue_to_red_out(width)
    return bool(steps.max() <= 2 * _TOLERANCE)


def gray_of(pixels: np.ndarray) -> np.ndarray:
    """(height, width) luma of gray or RGB pixels."""
    if pixels.ndim == 2:
        return pixels
    return np.asarray(Image.fromarray(pixels).convert("L"))


def encode(pixels: np.ndarray, encoding: str, quality: int) -> tuple[bytes, str]:
    """The file's bytes, and the codec that made them. `quality` is JPEG's."""
    if encoding == "jpeg":
        return encode_jpeg(pixels, quality), JPEG_CODEC
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), f"Pillow {PIL.__version__}"


def _blue_to_red_out(width: int) -> np.ndarray:
    mask = np.full(width * 3 - 1, 255, np.uint8)
    mask[2::3] = 0
    return mask

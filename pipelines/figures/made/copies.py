"""Copies of a figure as corpora hold them, each a change of the original's pixels or caption."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from pipelines.figures.made.canvas import Pixels

BYTES, CAPTION = "bytes", "caption"
"""The same bytes under another name; and another image with nearly the same caption."""


def _resized(pixels: Pixels, rnd: random.Random) -> Pixels:
    share = rnd.uniform(0.55, 0.9)
    high, wide = (max(1, round(side * share)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((wide, high), Image.Resampling.LANCZOS))


def _cropped(pixels: Pixels, rnd: random.Random) -> Pixels:
    """Without 2 % of the height and of the width, shared out between the sides by chance."""
    high, wide = (round(side * 0.02) for side in pixels.shape[:2])
    top, left = rnd.randint(0, high), rnd.randint(0, wide)
    bottom, right = pixels.shape[0] - high + top, pixels.shape[1] - wide + left
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def _brightened(pixels: Pixels, rnd: random.Random) -> Pixels:
    factor = np.float32(rnd.uniform(1.05, 1.15))
    return np.clip(pixels * factor + 4, 0, 255).astype(np.uint8)


PIXEL_COPIES: Mapping[str, Callable[[Pixels, random.Random], Pixels]] = {
    "re_encoded": lambda pixels, rnd: pixels,
    "resized": _resized,
    "cropped": _cropped,
    "brightened": _brightened,
}
"""Copies that are encoded anew, at another quality or as PNG."""

COPIES = (BYTES, *PIXEL_COPIES, CAPTION)

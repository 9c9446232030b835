"""What decoding gives: pixels, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class Rejected(ValueError):
    """An image that cannot be used; `reason` is a word of snake_case."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Picture:
    """A decoded image, upright.

    `pixels` is (height, width) for gray or (height, width, 3) for RGB, uint8. It may be smaller
    than the source where a smaller one was asked for; source sizes are of the upright image.
    `codec` names the library that decoded it, with its version.
    """

    pixels: np.ndarray
    source_width_px: int
    source_height_px: int
    source_format: str
    source_mode: str
    codec: str


@dataclass(frozen=True)
class Limits:
    """Sizes that an image must keep, checked before it is decoded.

    `most_pixels` holds a decompression bomb off: the default takes 240 MB as RGB. A side shorter
    than `least_side_px` shows nothing.
    """

    most_pixels: int = 80_000_000
    least_side_px: int = 8

    def check(self, width_px: int, height_px: int) -> None:
        """Raises Rejected: `too_many_pixels` or `too_small`."""
        if width_px * height_px > self.most_pixels:
            raise Rejected("too_many_pixels")
        if min(width_px, height_px) < self.least_side_px:
            raise Rejected("too_small")

"""Compound figures made of real images, with the truth of where each panel lies.

As figures come in papers: two to nine panels in rows of one height, the last row often shorter,
gutters of white or black or none to speak of, a margin or none, letters in the panels' corners or
over them, and saved as JPEG, which blurs what the eye sees as sharp.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from udfs.images.panels import Box

ROWS = {
    2: ((2,), (1, 1)),
    3: ((3,), (2, 1), (1, 2)),
    4: ((2, 2), (4,), (3, 1)),
    5: ((3, 2), (2, 3)),
    6: ((3, 3), (2, 2, 2)),
    7: ((4, 3), (3, 3, 1)),
    8: ((4, 4), (3, 3, 2)),
    9: ((3, 3, 3),),
}
LETTERS = ("none", "inside", "above")


@dataclass(frozen=True)
class Composite:
    """A compound figure: gray values, panels' places in reading order, and how it is made."""

    gray: np.ndarray
    boxes: list[Box]
    gutter: str
    gutter_px: int
    letters: str


def composite(images: Sequence[Image.Image], rng: random.Random) -> Composite:
    """One figure of all `images` (gray), 700 to 1400 px wide."""
    colour, gutter = rng.choice((("white", 255), ("black", 0)))
    gutter_px = rng.choice((3, 4, 6, 8, 12, 16, 24))
    margin_px = rng.choice((0, gutter_px))
    letters = rng.choice(LETTERS)
    above_px = 24 if letters == "above" else 0
    width = rng.randrange(700, 1400)
    rows = rng.choice(ROWS[len(images)])

    placed: list[tuple[Image.Image, Box]] = []
    left = iter(images)
    top = margin_px
    full_height: int | None = None
    for in_row in rows:
        row = [next(left) for _ in range(in_row)]
        room = width - 2 * margin_px - gutter_px * (in_row - 1)
        height = round(room / sum(i.width / i.height for i in row))
        # A shorter row keeps the height of the first, and so ends before the right side.
        full_height = height = min(height, full_height or height)
        top += above_px
        x = margin_px
        for image in row:
            box = Box(x, top, x + max(1, round(height * image.width / image.height)), top + height)
            placed.append((image, box))
            x = box.right + gutter_px
        top += height + gutter_px
    figure = Image.new("L", (width, top - gutter_px + margin_px), gutter)
    draw, font = ImageDraw.Draw(figure), ImageFont.load_default(20)
    for letter, (image, box) in zip("ABCDEFGHI", placed, strict=False):
        size = box.right - box.left, box.bottom - box.top
        figure.paste(image.resize(size, Image.Resampling.LANCZOS), (box.left, box.top))
        if letters != "none":
            up = box.top - above_px if above_px else box.top + 4
            draw.text((box.left + 4, up), letter, fill=255 - gutter if above_px else 230, font=font)
    file = io.BytesIO()
    figure.save(file, "JPEG", quality=rng.choice((75, 85, 95)))
    boxes = [box for _, box in placed]
    return Composite(np.asarray(Image.open(file)), boxes, colour, gutter_px, letters)


def overlap(one: Box, other: Box) -> float:
    """Area of both over area of either."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0, width) * max(0, height)
    return both / (_area(one) + _area(other) - both)


def _area(box: Box) -> int:
    return (box.right - box.left) * (box.bottom - box.top)

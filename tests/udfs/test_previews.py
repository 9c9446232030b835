"""Previews of every kind of image, and none of what must not be decoded."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from pipelines.figures.made.dirt import IMAGE_DIRT, IMAGE_FLAWS
from pipelines.figures.made.draw import draw, saved
from pipelines.figures.made.scenes import Scene
from udfs.previews import preview

_PIXELS = draw(
    Scene("retina", {"side": "left", "finding": "none", "count": 5}),
    np.random.Generator(np.random.SFC64(2)),
)


def _small(data: bytes | None) -> Image.Image:
    made = preview(data, 96)
    assert made is not None
    assert len(made) < 8000
    image = Image.open(io.BytesIO(made))
    assert image.format == "JPEG"
    assert max(image.size) <= 96
    return image


@pytest.mark.parametrize("kind", sorted(IMAGE_FLAWS))
def test_odd_formats_look_like_the_image(kind: str) -> None:
    _, data = IMAGE_FLAWS[kind](_PIXELS, 1, random.Random(1))
    seen = _small(data)
    wanted = Image.fromarray(_PIXELS)
    wanted.thumbnail((96, 96))
    assert seen.size == wanted.size
    a, b = (np.asarray(x.convert("L"), dtype=float).ravel() for x in (seen, wanted))
    assert np.corrcoef(a, b)[0, 1] > (0.9 if kind == "palette_alpha" else 0.97)


@pytest.mark.parametrize("kind", sorted(set(IMAGE_DIRT) - {"one_pixel", "blank"}))
def test_what_cannot_be_decoded_has_no_preview(kind: str) -> None:
    _, data = IMAGE_DIRT[kind](_PIXELS, 1, random.Random(1))
    assert preview(data, 96) is None


def test_a_bomb_below_pillows_own_limit_is_not_decoded_either() -> None:
    assert preview(saved(Image.new("1", (8000, 6000)), "PNG"), 96) is None


def test_small_and_transparent_images() -> None:
    assert _small(IMAGE_DIRT["one_pixel"](_PIXELS, 1, random.Random(1))[1]).size == (1, 1)
    clear = Image.new("RGBA", (50, 40), (0, 0, 0, 0))
    assert _small(saved(clear, "PNG")).getpixel((20, 20)) == (255, 255, 255)  # white, as on paper
    assert preview(b"DICM" * 100, 96) is None

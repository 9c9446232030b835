"""From a scene to pixels, and from pixels to the bytes of a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import simplejpeg
from PIL import Image

from pipelines.figures.made import colour, radiology
from pipelines.figures.made.canvas import Pixels, write
from pipelines.figures.made.scenes import Fact, Scene

_DRAWINGS: Mapping[str, Callable[[Mapping[str, Fact], int, int, np.random.Generator], Pixels]] = {
    "chest": radiology.chest,
    "abdomen": radiology.abdomen,
    "brain": radiology.brain,
    "head": radiology.head,
    "sonogram": radiology.sonogram,
    "body": radiology.body,
    "retina": colour.retina,
    "cells": colour.cells,
    "chart": colour.chart,
}
_SMALLEST, _LARGEST = 8, 16  # sides of 256 to 512 px, in steps of 32
_COLUMNS = {2: 2, 3: 3, 4: 2, 5: 3, 6: 3}


def draw(scene: Scene, rng: np.random.Generator) -> Pixels:
    """The image, gray (height, width) or RGB (height, width, 3), its sides from 256 to 512 px."""
    if scene.panels:
        return _compound(scene, rng)
    wide = 32 * int(rng.integers(_SMALLEST, _LARGEST + 1, 2).min())
    high = int(np.clip(wide * rng.uniform(0.8, 1.15) // 32 * 32, 256, 512))
    return _drawn(scene, high, wide, rng)


def _drawn(scene: Scene, high: int, wide: int, rng: np.random.Generator) -> Pixels:
    return _DRAWINGS[scene.kind](scene.facts, high // 2, wide // 2, rng)


def _compound(scene: Scene, rng: np.random.Generator) -> Pixels:
    """Panels of one size in rows, gutters between them, and their letters where they have some."""
    count = len(scene.panels)
    columns = 1 if count == 2 and rng.random() < 0.25 else _COLUMNS[count]
    rows = -(-count // columns)
    most = 512 // max(columns, rows) // 16 * 16
    wide = most if columns >= rows else int(rng.integers(most * 3 // 4, most + 1)) // 16 * 16
    high = int(np.clip(wide * rng.uniform(0.8, 1.1) // 16 * 16, 112, 256))
    gap = int(rng.integers(6, 15))
    dark = scene.facts["dark gutters"] == "yes"
    images = [_drawn(panel, high, wide, rng) for panel in scene.panels]
    rgb = any(image.ndim == 3 for image in images)
    size = (rows * high + (rows - 1) * gap, columns * wide + (columns - 1) * gap)
    whole = np.full((*size, 3) if rgb else size, 0 if dark else 255, np.uint8)
    for n, image in enumerate(images):
        top, left = n // columns * (high + gap), n % columns * (wide + gap)
        place = whole[top : top + high, left : left + wide]
        place[...] = image[..., None] if rgb and image.ndim == 2 else image
        if scene.facts["lettered"] == "yes":
            ground = float(place[6:22, 6:22].mean())
            write(place, "ABCDEF"[n], 6, 3, 20 if ground > 128 else 245, size=18)
    return whole


def jpeg(pixels: Pixels, quality: int = 85) -> bytes:
    if pixels.ndim == 2:
        gray: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels[..., None]), quality=quality, colorspace="GRAY"
        )
        return gray
    coloured: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality)
    return coloured


def png(pixels: Pixels) -> bytes:
    return saved(Image.fromarray(pixels), "PNG", compress_level=1)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()

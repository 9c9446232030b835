"""Colour drawings: stained cells, the back of an eye, and charts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from pipelines.figures.made.canvas import (
    Canvas,
    Pixels,
    blob,
    finished,
    font,
    grid,
    tissue,
    uneven,
)
from pipelines.figures.made.scenes import Fact

_COLOURS = {
    "blue": (49, 104, 176),
    "orange": (226, 132, 47),
    "green": (70, 148, 80),
    "red": (190, 58, 54),
    "purple": (122, 84, 160),
    "gray": (118, 118, 118),
}
# Of each stain: ground, cell body, nucleus.
_STAINS = {
    "hematoxylin and eosin": ((236, 196, 214), (216, 140, 178), (92, 52, 128)),
    "Giemsa": ((244, 236, 228), (226, 170, 160), (96, 60, 150)),
    "DAPI": ((4, 5, 14), (10, 24, 92), (70, 120, 250)),
}


def cells(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    """`count` cells, each whole and apart from the others."""
    ground, body, nucleus = _STAINS[str(facts["stain"])]
    high, wide = 2 * high, 2 * wide
    count = int(facts["count"])
    columns = max(1, round((count * wide / high) ** 0.5))
    rows = -(-count // columns)
    used = rng.permutation(columns * rows)[:count]
    across, down = wide / columns, (high - 26) / rows
    most = 0.42 * min(across, down)
    image = Image.new("RGB", (wide, high), ground)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 9))):  # strands of tissue, or unevenness of the slide
        x, y = rng.uniform(0, wide), rng.uniform(0, high)
        rx, ry = rng.uniform(0.1, 0.35, 2) * (wide, high)
        mix = rng.uniform(0.12, 0.4)
        shade = tuple(int(g + (b - g) * mix) for g, b in zip(ground, body, strict=True))
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=shade)
    sizes = rng.uniform(0.6, 1.0, (count, 2)) * most
    slack = rng.uniform(-1, 1, (count, 2))
    for place, (rx, ry), (sx, sy) in zip(used.tolist(), sizes, slack, strict=True):
        x = (place % columns + 0.5) * across + sx * (across / 2 - rx - 1)
        y = (place // columns + 0.5) * down + sy * (down / 2 - ry - 1)
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=body)
        draw.ellipse((x - rx * 0.5, y - ry * 0.5, x + rx * 0.45, y + ry * 0.5), fill=nucleus)
    pixels = np.asarray(image).astype(np.float32)
    light = 1 + 0.07 * uneven(high // 2, wide // 2, rng)
    pixels *= light.repeat(2, 0).repeat(2, 1)[..., None]
    pixels += (5 * tissue(high, wide, rng))[..., None]
    done = np.clip(pixels, 0, 255).astype(np.uint8)
    bright = facts["stain"] == "DAPI"
    done[-14:-10, -wide // 4 - 10 : -10] = 255 if bright else 20
    return done


def retina(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    at = grid(high, wide)
    side = 1 if facts["side"] == "right" else -1  # the disc lies towards the nose
    disc_x, disc_y = side * rng.uniform(0.3, 0.42), rng.uniform(-0.1, 0.1)
    light = (1 + 0.16 * uneven(high, wide, rng)) * blob(at, 0, 0, 0.92, 0.92, soft=0.03)
    red = 178 * light
    red -= 40 * blob(at, -side * 0.12, 0.02, 0.2, 0.2, soft=1.2)
    vessels = np.zeros_like(red)
    steps = np.linspace(0, 1, 14)
    mask = Image.new("L", (wide, high))
    draw = ImageDraw.Draw(mask)
    for n in range(8):
        angle = 0.4 + n * 0.785 + rng.uniform(-0.25, 0.25)
        bend = rng.uniform(-0.6, 0.6)
        x = disc_x + 1.1 * steps * np.cos(angle + bend * steps)
        y = disc_y + 1.1 * steps * np.sin(angle + bend * steps)
        path = [((u + 1) / 2 * wide, (v + 1) / 2 * high) for u, v in zip(x, y, strict=True)]
        draw.line(path, fill=170, width=int(rng.integers(1, 4)))
    vessels = np.asarray(mask, dtype=np.float32) / 255 * (light > 0.3)
    red -= 70 * vessels
    red += 70 * blob(at, disc_x, disc_y, 0.13, 0.15, soft=0.3)
    green = 0.42 * red + 60 * blob(at, disc_x, disc_y, 0.13, 0.15, soft=0.3)
    for _ in range(int(facts["count"]) if facts["finding"] != "none" else 0):
        x, y = rng.uniform(-0.6, 0.6, 2)
        size = rng.uniform(0.025, 0.05)
        spot = blob(at, x, y, size, size, soft=0.5)
        if facts["finding"] == "exudates":
            red += 70 * spot
            green += 110 * spot
        else:
            red -= 90 * spot
            green -= 50 * spot
    blue = 0.35 * green
    return _rgb(red, green, blue, rng)


def _rgb(red: Canvas, green: Canvas, blue: Canvas, rng: np.random.Generator) -> Pixels:
    return np.stack([finished(c, rng, grain=2) for c in (red, green, blue)], axis=-1)


def chart(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    """Bars or a line over groups, of which one is the highest by a clear margin."""
    high, wide = 2 * high, 2 * wide
    image = Image.new("RGB", (wide, high), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    small = font(max(9, high // 30))
    left, bottom = int(wide * rng.uniform(0.12, 0.2)), int(high * rng.uniform(0.78, 0.88))
    top, right = int(high * rng.uniform(0.05, 0.16)), int(wide * rng.uniform(0.86, 0.97))
    groups, colour = int(facts["groups"]), _COLOURS[str(facts["colour"])]
    shares = rng.uniform(0.12, 0.8, groups)
    shares[int(facts["highest"]) - 1] = rng.uniform(0.9, 0.97)
    most = int(facts["top"]) / 0.95
    for n in range(6):
        y = bottom - (bottom - top) * n / 5
        draw.line((left - 4, y, right, y), fill=(225, 225, 225) if n else (0, 0, 0))
        draw.text((left - 6, y), f"{most * n / 5:.0f}", fill=(40, 40, 40), font=small, anchor="rm")
    draw.line((left, top, left, bottom), fill=(0, 0, 0), width=2)
    step = (right - left) / groups
    thick = rng.uniform(0.45, 0.8)
    tops = bottom - shares * (bottom - top)
    middles = left + (np.arange(groups) + 0.5) * step
    if facts["style"] == "bar":
        for x, y in zip(middles, tops, strict=True):
            draw.rectangle((x - step * thick / 2, y, x + step * thick / 2, bottom), fill=colour)
            spread = rng.uniform(0.01, 0.05) * (bottom - top)
            draw.line((x, y - spread, x, y + spread), fill=(0, 0, 0), width=2)
    else:
        path = list(zip(middles.tolist(), tops.tolist(), strict=True))
        draw.line(path, fill=colour, width=3)
        for x, y in path:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
    for n, x in enumerate(middles):
        draw.text((x, bottom + 5), f"{n + 1}", fill=(40, 40, 40), font=small, anchor="mt")
    draw.text(
        ((left + right) / 2, high - 2), f"group (n = {facts['patients']})",
        fill=(0, 0, 0), font=small, anchor="mb",
    )  # fmt: skip
    draw.text((left, 4), str(facts["measure"]), fill=(0, 0, 0), font=small, anchor="la")
    return np.asarray(image).copy()

"""Gray drawings: radiograph, CT, MRI, ultrasound and a body scan. The patient's right is left.

Each takes the facts of a scene, the height and width of its canvas, and a generator.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.figures.made.canvas import (
    Pixels,
    blob,
    finished,
    grid,
    paint,
    speckle,
    tissue,
    uneven,
    write,
)
from pipelines.figures.made.scenes import Fact

_CHEST_MM, _ABDOMEN_MM, _HEAD_MM = 340, 380, 200  # what the width shows


def _sign(facts: Mapping[str, Fact], key: str = "side") -> int:
    return -1 if str(facts[key]).startswith("right") else 1


def chest(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    at = grid(high, wide).turned(rng)
    canvas = np.full((high, wide), 18, np.float32)
    field = uneven(high, wide, rng)
    paint(canvas, blob(at, 0, 0.35, 0.98, 1.5, soft=0.12), 150)
    lungs = np.maximum(
        blob(at, -0.42, -0.02, 0.31, 0.68, soft=0.2), blob(at, 0.42, -0.02, 0.30, 0.68, soft=0.2)
    )
    paint(canvas, lungs, 58)
    phase, spacing = rng.uniform(0, 6), rng.uniform(17, 23)
    bands = np.sin((at.y + 0.45 * at.x * at.x) * np.float32(spacing) + np.float32(phase))
    canvas += 26 * np.clip(bands, 0, 1) * lungs
    spine = np.exp(at.x * at.x * -90)
    canvas += spine * 42
    paint(canvas, blob(at, 0.1, 0.28, rng.uniform(0.26, 0.36), 0.33, soft=0.3), 178)
    for side in (-1, 1):
        paint(canvas, blob(at, side * 0.45, 0.86, 0.5, 0.3, soft=0.15), 182)
        paint(canvas, 0.5 * blob(at, side * 0.4, -0.72, 0.34, 0.05, soft=0.5), 200)
    side, zone = _sign(facts), {"upper": -0.38, "middle": -0.02, "lower": 0.34}[str(facts["zone"])]
    radius = int(facts["size_mm"]) / _CHEST_MM
    if facts["finding"] == "nodule":
        x = side * 0.44 + rng.uniform(-0.06, 0.06)
        spot = blob(at, x, zone, radius, radius * wide / high, soft=0.3)
        paint(canvas, 0.9 * spot, 196)
    elif facts["finding"] == "effusion":
        level = np.float32(0.55 - 2 * radius) + 0.25 * (at.x - side * 0.42) ** 2
        paint(canvas, lungs * np.clip((at.y - level) * 9, 0, 1) * (at.x * side > 0), 186)
    elif facts["finding"] == "consolidation":
        cloud = blob(at, side * 0.42, zone, 0.27, 0.27, soft=0.9)
        cloud *= np.clip(0.75 + 0.4 * tissue(high, wide, rng), 0, 1)
        paint(canvas, cloud, 184)
    canvas *= 1 + 0.13 * field
    image = finished(canvas, rng, grain=4)
    mark = "R" if rng.random() < 0.7 else "R  AP" if facts["view"] == "anteroposterior" else "R"
    write(image, mark, int(wide * 0.14), int(high * 0.12), 245, size=max(12, high // 9))
    return image


_ORGANS = {
    # centre and radii of each organ, and its gray
    "liver": (-0.36, -0.12, 0.40, 0.42, 138),
    "spleen": (0.60, -0.02, 0.17, 0.30, 142),
    "right kidney": (-0.38, 0.36, 0.15, 0.19, 158),
    "left kidney": (0.40, 0.34, 0.15, 0.19, 158),
}


def abdomen(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    at = grid(high, wide).turned(rng)
    canvas = np.zeros((high, wide), np.float32)
    paint(canvas, blob(at, 0, 0, 0.95, 0.78, soft=0.03), 62)
    paint(canvas, blob(at, 0, 0.02, 0.85, 0.68, soft=0.05), 108)
    for _ in range(int(rng.integers(3, 7))):
        x, y = rng.uniform(-0.1, 0.55), rng.uniform(-0.5, 0.1)
        rx, ry = rng.uniform(0.06, 0.15, 2)
        paint(canvas, blob(at, x, y, rx, ry, soft=0.25), rng.choice((20, 92, 170)))
    for x, y, rx, ry, gray in _ORGANS.values():
        size = rng.uniform(0.92, 1.08)
        paint(canvas, blob(at, x, y, rx * size, ry * size, soft=0.08), gray)
    paint(canvas, blob(at, 0, 0.42, 0.15, 0.13, soft=0.15), 232)
    paint(canvas, blob(at, 0, 0.62, 0.06, 0.12, soft=0.3), 222)
    paint(canvas, blob(at, 0.02, 0.2, 0.065, 0.07, soft=0.2), 196)
    x, y, rx, ry, gray = _ORGANS[str(facts["organ"])]
    lesion = gray + (70 if facts["density"] == "hyperdense" else -62)
    first = rng.uniform(0, 6.28)
    for n in range(int(facts["count"])):
        angle, radius = first + n * 2.2, int(facts["size_mm"]) / _ABDOMEN_MM * (1 - 0.15 * n)
        reach = max(0.0, 0.75 - radius / rx) if facts["count"] == 1 else 0.55
        spot = blob(
            at,
            x + reach * rx * np.cos(angle),
            y + reach * ry * np.sin(angle),
            radius,
            radius * wide / high,
            soft=0.25,
        )
        paint(canvas, spot, lesion)
    canvas *= 1 + 0.12 * uneven(high, wide, rng) + 0.03 * tissue(high, wide, rng)
    image = finished(canvas, rng, grain=5)
    if rng.random() < 0.5:
        write(image, "R", 8, high - 10, 230, size=max(12, high // 10))
    return image


_LOBES = {"frontal": -0.45, "parietal": 0.08, "occipital": 0.5}


def brain(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    at = grid(high, wide).turned(rng, turn=0.2)
    canvas = np.zeros((high, wide), np.float32)
    paint(canvas, blob(at, 0, 0, 0.80, 0.93, soft=0.03), 245)
    paint(canvas, blob(at, 0, 0, 0.73, 0.86, soft=0.03), 112)
    canvas += 7 * tissue(high, wide, rng) * (canvas == 112)
    wider = rng.uniform(0.8, 1.3)
    for side in (-1, 1):
        paint(canvas, blob(at, side * 0.13, -0.13, 0.07 * wider, 0.22, soft=0.3), 48)
        paint(canvas, blob(at, side * 0.2, 0.2, 0.06 * wider, 0.17, soft=0.3), 48)
    canvas += 40 * np.exp(at.x * at.x * -4000) * (np.abs(at.y) < 0.8)
    side, y = _sign(facts), _LOBES[str(facts["lobe"])]
    radius = int(facts["size_mm"]) / _HEAD_MM
    if facts["finding"] != "none":
        gray = 218 if facts["finding"] == "hemorrhage" else 66
        soft = 0.2 if facts["finding"] == "hemorrhage" else 0.7
        x = side * rng.uniform(0.33, 0.44)
        paint(canvas, blob(at, x, y, radius, radius * wide / high * 1.2, soft=soft), gray)
    canvas *= 1 + 0.12 * uneven(high, wide, rng)
    return finished(canvas, rng, grain=4)


_SEQUENCES = {
    # grays of scalp, white matter, cortex, ventricles, lesion
    "T1-weighted": (225, 150, 108, 34, 62),
    "T2-weighted": (150, 84, 132, 236, 206),
    "FLAIR": (170, 96, 124, 24, 232),
}


def head(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    scalp, white, cortex, fluid, lesion = _SEQUENCES[str(facts["sequence"])]
    at = grid(high, wide).turned(rng, turn=0.2)
    canvas = np.full((high, wide), 4, np.float32)
    paint(canvas, blob(at, 0, 0, 0.84, 0.95, soft=0.03), scalp)
    paint(canvas, blob(at, 0, 0, 0.78, 0.89, soft=0.03), 14)
    paint(canvas, blob(at, 0, 0, 0.71, 0.83, soft=0.04), cortex)
    folds = np.clip(0.5 + 1.4 * tissue(high, wide, rng), 0, 1)
    paint(canvas, folds * blob(at, 0, 0, 0.70, 0.81, soft=0.08), 0.6 * cortex + 0.4 * white)
    for side in (-1, 1):
        paint(canvas, blob(at, side * 0.31, 0, 0.28, 0.62, soft=0.4), white)
        paint(canvas, blob(at, side * 0.13, -0.14, 0.06, 0.2, soft=0.3), fluid)
        paint(canvas, blob(at, side * 0.19, 0.18, 0.055, 0.16, soft=0.3), fluid)
    canvas += (14 - canvas) * np.exp(at.x * at.x * -2500) * (np.abs(at.y) < 0.8)
    side, y = _sign(facts), _LOBES[str(facts["lobe"])]
    for n in range(int(facts["count"])):
        radius = int(facts["size_mm"]) / _HEAD_MM * (1 - 0.12 * n)
        x = side * (0.34 + 0.12 * (n % 2) - 0.06 * (facts["count"] != 1))
        spot = blob(at, x, y + 0.2 * (n // 2) - 0.05 * n, radius, radius * wide / high, soft=0.35)
        paint(canvas, spot, lesion)
    canvas *= 1 + 0.13 * uneven(high, wide, rng)
    return finished(canvas, rng, grain=4)


def sonogram(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    """A fan below a curved probe, in which echoes are noise times the tissue's brightness."""
    at = grid(high, wide)
    tip = np.float32(rng.uniform(-1.5, -1.28))
    x, y = at.x * np.float32(0.9), at.y - tip
    depth = np.sqrt(x * x + y * y)
    angle = np.arctan2(x, y)
    inside = (depth > 0.42) & (depth < 2.3) & (np.abs(angle) < rng.uniform(0.52, 0.62))
    tone = 74 + 26 * np.sin(depth * np.float32(rng.uniform(4, 9)) + np.float32(rng.uniform(0, 6)))
    tone *= 1 + 0.45 * uneven(high, wide, rng)
    organ_tone = {"liver": 1.0, "gallbladder": 0.25, "thyroid": 1.25}.get(str(facts["organ"]), 0.7)
    organ = blob(at, rng.uniform(-0.1, 0.1), 0.1, 0.52, 0.44, soft=0.12)
    tone *= 1 + (organ_tone - 1) * organ
    tone += 70 * np.clip(1 - np.abs(organ - 0.5) * 3, 0, 1)
    radius = int(facts["size_mm"]) / 120
    cx, cy = rng.uniform(-0.22, 0.22), rng.uniform(0, 0.2)
    spot = blob(at, cx, cy, radius, radius * wide / high, soft=0.2)
    below = blob(at, cx, cy + 0.55, radius * 0.8, 0.6, soft=0.3) * (at.y > cy)
    if facts["finding"] == "cyst":
        tone *= 1 + 0.7 * below
        tone *= 1 - 0.97 * spot
    elif facts["finding"] == "stone":
        tone *= 1 - 0.9 * below
        paint(tone, spot, 235)
    elif facts["finding"] == "solid nodule":
        paint(tone, 0.8 * spot, 128 if organ_tone < 0.9 else 48)
    canvas = np.where(inside, tone * speckle(high, wide, rng), 2).astype(np.float32)
    image = finished(np.clip(canvas, 0, 255), rng, grain=2)
    ticks = np.arange(0.08, 0.95, 0.11)
    for tick in (ticks * 2 * high).astype(int):
        image[tick : tick + 2, -10:-3] = 190
    return image


_REGIONS = {"chest": -0.35, "abdomen": 0.02, "pelvis": 0.36}


def body(facts: Mapping[str, Fact], high: int, wide: int, rng: np.random.Generator) -> Pixels:
    """A projection of uptake, dark on white: brain, heart and bladder, and the foci."""
    at = grid(high, wide).turned(rng, shift=0.05, turn=0.04)
    canvas = np.full((high, wide), 250, np.float32)
    frame = np.maximum(
        blob(at, 0, 0.02, 0.36, 0.62, soft=0.2), blob(at, 0, -0.8, 0.15, 0.17, soft=0.2)
    )
    for side in (-1, 1):
        frame = np.maximum(frame, blob(at, side * 0.17, 0.8, 0.14, 0.45, soft=0.3))
        frame = np.maximum(frame, blob(at, side * 0.45, 0.0, 0.09, 0.55, soft=0.3))
    paint(canvas, frame, 205)
    paint(canvas, blob(at, 0, -0.82, 0.12, 0.13, soft=0.5), 40)
    paint(canvas, blob(at, 0.1, -0.2, 0.1, 0.08, soft=0.8), rng.uniform(70, 170))
    paint(canvas, blob(at, 0, 0.52, 0.09, 0.07, soft=0.5), 25)
    paint(canvas, blob(at, -0.17, -0.02, 0.17, 0.12, soft=0.6), 150)
    for n in range(int(facts["count"])):
        x = rng.uniform(-0.26, 0.26)
        y = _REGIONS[str(facts["region"])] + rng.uniform(-0.1, 0.1)
        size = rng.uniform(0.025, 0.055)
        paint(canvas, blob(at, x, y, size, size * wide / high * (1 + 0.1 * n), soft=0.6), 18)
    canvas += 9 * uneven(high, wide, rng) + (6 * tissue(high, wide, rng) + 12) * (frame > 0.5)
    return finished(canvas, rng, grain=3)

"""What all drawings share: soft shapes on a grid at half of the image's size, grain, and letters.

A canvas is a float32 array (height, width) of grays from 0 to 255. It has half of the image's
height and width, because most of what anatomy shows is smooth; `finished` doubles it and adds
grain at full size. That is several times as fast as drawing or resampling at full size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Canvas = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_BANK = 1024  # px, side of the fixed noise from which every image takes a window
_WAVES = 7


@dataclass(frozen=True)
class Grid:
    """Where each pixel of a canvas lies: x to the right and y down, from -1 to 1."""

    x: Canvas
    y: Canvas

    def turned(self, rng: np.random.Generator, *, shift: float = 0.07, turn: float = 0.12) -> Grid:
        """The same grid as a patient who lies a little shifted, turned, larger or slimmer sees it.

        `shift` is in half widths, `turn` in radians.
        """
        angle = rng.uniform(-turn, turn)
        dx, dy = rng.uniform(-shift, shift, 2)
        sx, sy = rng.uniform(0.9, 1.12, 2)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        x, y = self.x - np.float32(dx), self.y - np.float32(dy)
        return Grid((x * cos + y * sin) * np.float32(sx), (y * cos - x * sin) * np.float32(sy))


@lru_cache(maxsize=64)
def grid(height: int, width: int) -> Grid:
    y, x = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32),
        np.linspace(-1, 1, width, dtype=np.float32),
        indexing="ij",
    )
    return Grid(x, y)


def blob(at: Grid, cx: float, cy: float, rx: float, ry: float, *, soft: float = 0.15) -> Canvas:
    """An ellipse: 1 inside, 0 outside, and `soft` of its radius from the one to the other."""
    dx = (at.x - np.float32(cx)) * np.float32(1 / rx)
    dy = (at.y - np.float32(cy)) * np.float32(1 / ry)
    dx *= dx
    dy *= dy
    dx += dy
    np.sqrt(dx, out=dx)
    dx *= np.float32(-1 / soft)
    dx += np.float32(1 / soft + 0.5)
    np.maximum(dx, np.float32(0), out=dx)  # np.clip takes twice as long
    return np.minimum(dx, np.float32(1), out=dx)


def paint(canvas: Canvas, mask: Canvas, gray: float) -> None:
    """Cover the canvas with `gray` where the mask is 1."""
    canvas += (np.float32(gray) - canvas) * mask


@lru_cache(maxsize=64)
def _waves(length: int) -> Canvas:
    at = (np.arange(length, dtype=np.float32) + 0.5) / length
    return np.cos(np.pi * at[:, None] * np.arange(_WAVES, dtype=np.float32))


def uneven(height: int, width: int, rng: np.random.Generator) -> Canvas:
    """A smooth random field of variance about 1: no two patients are alike.

    Its waves are those that perceptual hashes look at, so that figures of one kind are told apart.
    """
    weights = rng.normal(0, 1 / _WAVES * 2, (_WAVES, _WAVES)).astype(np.float32)
    return np.asarray(_waves(height) @ weights @ _waves(width).T, dtype=np.float32)


@lru_cache(maxsize=1)
def _noise() -> npt.NDArray[np.int16]:
    drawn = np.random.Generator(np.random.SFC64(20)).normal(0, 64, (_BANK, _BANK))
    return drawn.astype(np.int16)


@lru_cache(maxsize=2)
def _smooth_noise(rounds: int) -> Canvas:
    """Noise of variance 1 without its finest waves, as speckle (1 round) and tissue (2) have it."""
    noise = _noise().astype(np.float32)
    for axis in (0, 1):
        for _ in range(rounds):
            noise += np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
    noise /= noise.std()
    return noise


def _window(bank: npt.NDArray, height: int, width: int, rng: np.random.Generator) -> npt.NDArray:
    top, left = rng.integers(0, _BANK - height), rng.integers(0, _BANK - width)
    window: npt.NDArray = bank[top : top + height, left : left + width]
    return window


def tissue(height: int, width: int, rng: np.random.Generator) -> Canvas:
    """A window of smooth noise of variance 1."""
    return _window(_smooth_noise(2), height, width, rng)


def speckle(height: int, width: int, rng: np.random.Generator) -> Canvas:
    """A window of finer noise, the brightness of echoes: not negative, about 1 on average."""
    echoes: Canvas = np.abs(1 + np.float32(0.42) * _window(_smooth_noise(1), height, width, rng))
    return echoes


def finished(canvas: Canvas, rng: np.random.Generator, *, grain: int = 3) -> Pixels:
    """The image, twice as high and wide; `grain` is its noise's standard deviation in grays."""
    high, wide = canvas.shape
    half = canvas.astype(np.int16)
    rows = np.empty((2 * high, wide), np.int16)
    rows[::2] = half
    rows[1:-1:2] = (half[:-1] + half[1:]) >> 1
    rows[-1] = half[-1]
    image = np.empty((2 * high, 2 * wide), np.int16)
    image[:, ::2] = rows
    image[:, 1:-1:2] = (rows[:, :-1] + rows[:, 1:]) >> 1
    image[:, -1] = rows[:, -1]
    image += (_window(_noise(), 2 * high, 2 * wide, rng) * np.int16(grain)) >> 6
    np.maximum(image, np.int16(0), out=image)
    return np.minimum(image, np.int16(255), out=image).astype(np.uint8)


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=256)
def _letters(text: str, size: int) -> Canvas:
    """Coverage of a text, 0 to 1; (height, width)."""
    box = font(size).getbbox(text)
    mask = Image.new("L", (int(box[2]) + 1, int(box[3]) + 1))
    ImageDraw.Draw(mask).text((0, 0), text, font=font(size), fill=255)
    return np.asarray(mask, dtype=np.float32) / np.float32(255)


def write(image: Pixels, text: str, left: int, top: int, gray: int, *, size: int = 16) -> None:
    """Write on the image, in place; what lies outside of it is cut off."""
    mask = _letters(text, size)
    part = image[max(top, 0) : top + mask.shape[0], max(left, 0) : left + mask.shape[1]]
    mask = mask[: part.shape[0], : part.shape[1]]
    if image.ndim == 3:
        mask = mask[..., None]
    part[...] = (part + (gray - part.astype(np.float32)) * mask).astype(np.uint8)

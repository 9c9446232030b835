"""Copies of real images, as they come about: saved anew, resized, cropped, brightened."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageEnhance

COPIES = {
    "quality 90": lambda image: (image, 90),
    "quality 60": lambda image: (image, 60),
    "quality 30": lambda image: (image, 30),
    "75 % of the size": lambda image: (_resized(image, 0.75), 90),
    "50 % of the size": lambda image: (_resized(image, 0.5), 90),
    "cropped by 2 %": lambda image: (_cropped(image, 0.02), 90),
    "10 % brighter": lambda image: (ImageEnhance.Brightness(image).enhance(1.1), 90),
    "30 % brighter": lambda image: (ImageEnhance.Brightness(image).enhance(1.3), 90),
}
"""What was done to an image, and at which JPEG quality it is saved."""

LONGEST_SIDE_PX = 512


def real_images(shared_data: Path) -> list[Path]:
    """The 353 real images, in order."""
    medical = shared_data / "medical"
    folders = (medical / "vqa_rad" / "images", medical / "cc_chest" / "images")
    return sorted(p for folder in folders for p in folder.iterdir())


def normalised(path: Path) -> Image.Image:
    """A real image as training sees it: 8 bits, no longer than `LONGEST_SIDE_PX`."""
    with Image.open(path) as opened:
        image = opened.convert("L" if opened.mode in ("L", "I;16", "LA") else "RGB")
    image.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
    return image


def copies(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Each kind of copy of an image, as JPEG."""
    for kind, made in COPIES.items():
        yield kind, jpeg(*made(image))


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _resized(image: Image.Image, share: float) -> Image.Image:
    width, height = (max(1, round(side * share)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    """2 % off each side's length: half of it at each end."""
    width, height = image.size
    x, y = round(width * share / 2), round(height * share / 2)
    return image.crop((x, y, width - x, height - y))

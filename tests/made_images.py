"""Made images for tests: smooth as scans are, and files of every kind that figures come in."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def smooth(seed: int, width: int = 64, height: int = 48, *, gray: bool = False) -> Image.Image:
    """Blobs of colour, or of gray; another seed, another picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return image.convert("L") if gray else image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file that Pillow makes of an image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def files_of_every_kind(width: int = 64, height: int = 48) -> dict[str, bytes]:
    """Files that must decode, by what is special about them; all show `smooth(1)`."""
    rgb, gray = smooth(1, width, height), smooth(1, width, height, gray=True)
    deep = np.asarray(gray)
    other = smooth(2, width, height)
    return {
        "JPEG": saved(rgb, "JPEG", quality=95),
        "JPEG, progressive": saved(rgb, "JPEG", quality=95, progressive=True),
        "JPEG, gray": saved(gray, "JPEG", quality=95),
        "JPEG, gray as RGB": saved(gray.convert("RGB"), "JPEG", quality=95),
        "JPEG, CMYK": saved(rgb.convert("CMYK"), "JPEG", quality=95),
        "PNG": saved(rgb, "PNG"),
        "PNG, interlaced by rows": saved(rgb, "PNG", optimize=True),
        "PNG, palette": saved(rgb.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "PNG, 16 bits": saved(Image.fromarray(deep.astype(np.uint16) * 200 + 7), "PNG"),
        "PNG, gray with alpha": saved(gray.convert("LA"), "PNG"),
        "PNG, RGB with alpha": saved(rgb.convert("RGBA"), "PNG"),
        "GIF, animated": saved(
            rgb.convert("P", palette=Image.Palette.ADAPTIVE),
            "GIF",
            save_all=True,
            append_images=[other.convert("P", palette=Image.Palette.ADAPTIVE)],
        ),
        "TIFF, two pages": saved(rgb, "TIFF", save_all=True, append_images=[other]),
        "TIFF, LZW": saved(rgb, "TIFF", compression="tiff_lzw"),
        "TIFF, CMYK": saved(rgb.convert("CMYK"), "TIFF"),
        "TIFF, YCbCr": saved(rgb.convert("YCbCr"), "TIFF"),
        "TIFF, 16 bits": saved(Image.fromarray(deep.astype(np.uint16) * 200 + 7), "TIFF"),
        "TIFF, 32 bits, below zero": saved(Image.fromarray(deep.astype(np.int32) - 9999), "TIFF"),
        "TIFF, float": saved(Image.fromarray(deep.astype(np.float32) * 1e36), "TIFF"),
        "WEBP": saved(rgb, "WEBP", quality=95),
        "JPEG 2000": saved(rgb, "JPEG2000"),
        "BMP": saved(rgb, "BMP"),
        "PPM": saved(rgb, "PPM"),
    }

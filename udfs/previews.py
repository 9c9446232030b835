"""Small JPEG previews of images of any format that Pillow opens, for pages."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

MAX_SOURCE_PX = 40_000_000
_FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")
_QUALITY = 72


def preview(data: bytes | None, side_px: int) -> bytes | None:
    """A JPEG within `side_px` squared, the first frame, upright; None where it cannot be made.

    Images of more than MAX_SOURCE_PX pixels are not decoded. It never raises: a preview is no
    place to find out what is wrong with an image.
    """
    if not data:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MAX_SOURCE_PX:
                    return None
                image.draft(None, (2 * side_px, 2 * side_px))  # JPEG decodes small at once
                small = _shown(image, side_px)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=_QUALITY)
    except Exception:  # Pillow's plugins raise nearly anything on broken files
        return None
    return out.getvalue()


def _shown(image: Image.Image, side_px: int) -> Image.Image:
    """As 8-bit gray or RGB on white, within the side."""
    if image.mode in _DEEP_MODES:
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) * (255 / ((high - low) or 1.0))
        image = Image.fromarray(scaled.astype(np.uint8))
    elif image.has_transparency_data:
        own = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", own.size, "white"), own).convert("RGB")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    image = ImageOps.exif_transpose(image)
    image.thumbnail((side_px, side_px), Image.Resampling.BILINEAR)
    return image

"""Every other kind of image, by Pillow: gray or RGB of 8 bits comes out, whatever went in.

16-bit and float gray is spread from its own least to its own largest value; what is transparent is
laid on white; CMYK is converted, inverted where Adobe's mark says so; EXIF's rotation is applied.
"""

from __future__ import annotations

import io
import warnings
from functools import cache

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError, features

from udfs.images.picture import Limits, Picture, Rejected

# Kinds in which figures come. Others that Pillow reads (EPS starts a program) stay shut.
_FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "JPEG2000", "PPM")
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"RIFF",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
# The library behind each kind, by Pillow's name for it.
_LIBRARY = {
    "JPEG": "libjpeg_turbo",
    "MPO": "libjpeg_turbo",
    "PNG": "zlib",
    "TIFF": "libtiff",
    "WEBP": "webp",
    "JPEG2000": "jpg_2000",
}


def decode_with_pillow(content: bytes, limits: Limits) -> Picture:
    """An image file as a picture, see `decode`. Raises Rejected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata; what counts is whether it decodes
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                limits.check(*image.size)
                image.load()
                source_format, source_mode = image.format or "", image.mode
                upright = ImageOps.exif_transpose(image)
                pixels = _pixels(upright)
        except Rejected:
            raise
        except Image.DecompressionBombError as e:
            raise Rejected("too_many_pixels") from e
        except UnidentifiedImageError as e:
            raise Rejected("corrupt" if content.startswith(_MAGIC) else "not_an_image") from e
        except Exception as e:  # decoders raise whatever the bytes lead them to
            raise Rejected("truncated" if _is_cut_off(e) else "corrupt") from e
    height, width = pixels.shape[:2]
    limits.check(width, height)
    return Picture(pixels, width, height, source_format, source_mode, _codec(source_format))


def _pixels(image: Image.Image) -> np.ndarray:
    """(height, width) or (height, width, 3) uint8."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        return _spread(np.asarray(image))
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _on_white(image)
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("P", "CMYK", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB"):
        raise Rejected("unsupported_mode")
    return np.asarray(image)


def _spread(values: np.ndarray) -> np.ndarray:
    """Gray of any range to 0..255; what is not a number is black."""
    wide = values.astype(np.float32)
    known = np.isfinite(wide)
    if not known.any():
        return np.zeros(wide.shape, np.uint8)
    least, largest = float(wide[known].min()), float(wide[known].max())
    # Halves, because the range of floats may be wider than the largest float.
    span = largest / 2 - least / 2
    if span == 0:
        return np.zeros(wide.shape, np.uint8)
    share = (np.where(known, wide, np.float32(least)) / 2 - least / 2) / span
    return np.rint(share * 255).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    gray = image.mode in ("L", "LA", "La")
    if image.mode.endswith("a"):  # alpha multiplied in
        image = image.convert(image.mode[:-1] + "A")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    laid = Image.alpha_composite(white, image).convert("RGB")
    return laid.getchannel("G") if gray else laid


def _is_cut_off(error: Exception) -> bool:
    return isinstance(error, EOFError) or "truncated" in str(error).lower()


@cache
def _codec(source_format: str) -> str:
    name = _LIBRARY.get(source_format)
    version = features.version(name) if name else None
    return f"Pillow {PIL.__version__}" + (f" ({name} {version})" if version else "")

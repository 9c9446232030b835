"""Pixels brought to another size, with antialias: a window over all that a new pixel covers.

By cykooz.resizer, whose vector code takes half of the time of Pillow's loops. Where there is no
wheel of it, on ARM with Linux, by Pillow: the same window, with a rounding of its own.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

import numpy as np
import PIL
from PIL import Image

try:
    import cykooz_resizer as vectorised
except ImportError:
    vectorised = None
    RESIZER = f"Pillow {PIL.__version__}"
else:
    RESIZER = f"cykooz.resizer {version('cykooz.resizer')}"
    _kinds = {2: vectorised.PixelType.U8, 3: vectorised.PixelType.U8x3}
    _windows = {
        window: vectorised.ResizeOptions(vectorised.ResizeAlg.convolution(filter_))
        for window, filter_ in (
            ("bicubic", vectorised.FilterType.catmull_rom),
            ("bilinear", vectorised.FilterType.bilinear),
        )
    }

Window = Literal["bicubic", "bilinear"]
"""Bicubic keeps what is sharp, bilinear is quicker."""


def resized(pixels: np.ndarray, width: int, height: int, window: Window = "bicubic") -> np.ndarray:
    """(rows, columns) gray or (rows, columns, 3) RGB, uint8, as `height` rows of `width`."""
    if vectorised is None:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((width, height), Image.Resampling[window.upper()]))
    rows, columns = pixels.shape[:2]
    kind = _kinds[pixels.ndim]
    source = vectorised.ImageData(columns, rows, kind, pixels.tobytes())
    target = vectorised.ImageData(width, height, kind)
    vectorised.Resizer().resize(source, target, _windows[window])
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, *pixels.shape[2:])

"""Points by pixel become an image: a dark ground, and colours by the rank and log of counts."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from pipelines.trips.page.story import DensityMap

# From a street at night to a station at noon; the first is the ground.
_STOPS = (
    (0.0, (11, 15, 25)),
    (0.001, (28, 42, 74)),
    (0.3, (66, 84, 140)),
    (0.52, (150, 92, 148)),
    (0.72, (228, 110, 106)),
    (0.88, (252, 178, 96)),
    (1.0, (255, 250, 214)),
)
GROUND = "#0b0f19"
_FAINTEST = 40  # shade next to the ground, for one point where most pixels hold more


def palette() -> npt.NDArray[np.uint8]:
    """256 colours, shape (256, 3)."""
    at = np.linspace(0, 1, 256)
    stops = np.array([s for s, _ in _STOPS])
    colours = np.array([c for _, c in _STOPS], dtype=float)
    return np.stack([np.interp(at, stops, colours[:, i]) for i in range(3)], axis=1).astype("u1")


def shades(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Index in the palette of each pixel: 0 where nothing is, then half logarithm, half rank.

    Ranks alone (histogram equalisation) would paint two points like a hundred where most pixels
    hold one; logarithms alone leave all but the stations dark.
    """
    out = np.zeros(counts.shape, dtype=np.uint8)
    lit = counts > 0
    if not lit.any():
        return out
    values, inverse, often = np.unique(counts[lit], return_inverse=True, return_counts=True)
    rank = (np.cumsum(often) - often / 2) / often.sum()
    top = np.log1p(max(float(np.quantile(counts[lit], 0.9995)), 2.0))
    log = np.minimum(np.log1p(values) / top, 1.0)
    out[lit] = (_FAINTEST + (255 - _FAINTEST) * (0.5 * rank + 0.5 * log)).astype(np.uint8)[inverse]
    return out


def png(density: DensityMap) -> bytes:
    """The map as a PNG with a palette, one pixel for each pixel of the view."""
    from PIL import Image  # with matplotlib

    image = Image.fromarray(shades(density.counts), mode="P")
    image.putpalette(palette().tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def scale_bar_m(density: DensityMap) -> int:
    """A round length, about a sixth of the view's width."""
    sixth = density.view.width_px * density.view.m_per_px / 6
    power = 10 ** int(np.floor(np.log10(sixth)))
    return int(max(x * power for x in (1, 2, 5) if x * power <= sixth))

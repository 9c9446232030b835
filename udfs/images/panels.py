"""The panels of a compound figure, found by the gutters between them.

A recursive X-Y cut (Nagy and Seth, Hierarchical Representation of Optically Scanned Documents,
1984): stripes of white or black through the whole width or height of a region cut it, and each
piece is cut in turn. White space is in charts and text too: a white stripe counts only where the
pieces are solid, that is end along the stripe at an edge of other colour, as pictures do and
letters do not. Black is round a scan too, so that no edge is to be seen: a black stripe counts
where the pieces are of like size and filled, as a scan's table and its lettering are not. Pieces
as thin as a line of letters are no panels.

How often that is right is in docs/figures-panels.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Gray values that still count as white or black, for what JPEG leaves round an edge.
_WHITE_FROM = 222
_BLACK_TO = 30
# The share of a piece's edge that must not be white, within so many lines of the stripe.
_SOLID = 0.5
_EDGE_PX = 3
# Between black stripes: the shortest piece over the longest, and the share that is not black.
_LIKE = 0.35
_FILLED = 0.15
# A piece of a smaller share of the figure's longest side is a label.
_LEAST_SHARE = 0.08
_LEAST_PX = 16

Run = tuple[int, int]
"""First line, and the one after the last."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; `right` and `bottom` lie outside of it."""

    left: int
    top: int
    right: int
    bottom: int

    def cut_from(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[self.top : self.bottom, self.left : self.right]


def panel_boxes(gray: np.ndarray) -> list[Box]:
    """The panels of (height, width) uint8 in reading order; one box of all where none are."""
    height, width = gray.shape
    whole = Box(0, 0, width, height)
    least_px = max(_LEAST_PX, round(_LEAST_SHARE * max(height, width)))
    found = _cut(gray, whole, least_px)
    return _reading_order(found) if len(found) > 1 else [whole]


def _cut(gray: np.ndarray, box: Box, least_px: int) -> list[Box]:
    region = box.cut_from(gray)
    for pieces, is_other in ((_between_white, _not_white), (_between_black, _not_black)):
        if rows := pieces(region, least_px):
            boxes = [Box(box.left, box.top + a, box.right, box.top + b) for a, b in rows]
        elif columns := pieces(region.T, least_px):
            boxes = [Box(box.left + a, box.top, box.left + b, box.bottom) for a, b in columns]
        else:
            continue
        inner = [_trimmed(box, is_other(box.cut_from(gray))) for box in boxes]
        return [found for piece in inner for found in _cut(gray, piece, least_px)]
    return [box]


def _not_white(gray: np.ndarray) -> np.ndarray:
    return gray < _WHITE_FROM


def _not_black(gray: np.ndarray) -> np.ndarray:
    return gray > _BLACK_TO


def _between_white(region: np.ndarray, least_px: int) -> list[Run]:
    runs = _runs(_not_white(region.min(axis=1)))
    thick = [(a, b) for a, b in runs if b - a >= least_px]
    if len(thick) > 1 and all(_is_solid(_not_white(region[a:b])) for a, b in thick):
        return thick
    return []


def _is_solid(dark: np.ndarray) -> bool:
    """Whether a piece, true where it is not white, begins and ends at an edge."""
    columns = np.flatnonzero(dark.any(axis=0))
    inner = dark[:, columns[0] : columns[-1] + 1]
    first, last = inner[:_EDGE_PX], inner[-_EDGE_PX:]
    return all(float(edge.mean(axis=1).max()) >= _SOLID for edge in (first, last))


def _between_black(region: np.ndarray, least_px: int) -> list[Run]:
    """Pieces that meet in the middle of the stripe after each: what is thin belongs to the next."""
    runs = _runs(_not_black(region.max(axis=1)))
    thick = [(a, b) for a, b in runs if b - a >= least_px]
    if len(thick) < 2:
        return []
    lengths = [b - a for a, b in thick]
    if min(lengths) < _LIKE * max(lengths):
        return []
    if any(_not_black(region[a:b]).mean() < _FILLED for a, b in thick):
        return []
    next_of = dict(pairwise(runs))
    cuts = [(run[1] + next_of[run][0]) // 2 for run in thick[:-1]]
    return list(zip([0, *cuts], [*cuts, len(region)], strict=True))


def _runs(flags: np.ndarray) -> list[Run]:
    """Where flags are true; none where they all are."""
    if flags.all():
        return []
    edged = np.zeros(len(flags) + 2, bool)
    edged[1:-1] = flags
    steps = np.flatnonzero(edged[1:] != edged[:-1]).tolist()
    return list(zip(steps[::2], steps[1::2], strict=True))


def _trimmed(box: Box, other: np.ndarray) -> Box:
    """A box without the lines at its sides that are all of the stripe's colour."""
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    left, top = box.left + int(columns[0]), box.top + int(rows[0])
    return Box(left, top, box.left + int(columns[-1]) + 1, box.top + int(rows[-1]) + 1)


def _reading_order(boxes: list[Box]) -> list[Box]:
    """Row by row, left to right; a box that begins above the middle of a row's first is in it."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda b: (b.top, b.left)):
        if rows and 2 * box.top < rows[-1][0].top + rows[-1][0].bottom:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda b: b.left)]

"""Cells of Uber's H3 as 64-bit integers, and how far a disk of them is sure to reach.

Cells come from Arrow batches through `h3.api.numpy_int`; a batch asks for the disk of each distinct
cell once. Latitudes and longitudes are WGS84 degrees, lengths are metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import h3.api.numpy_int as h3
import numpy as np
import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

from udfs.geometry import EARTH_RADIUS_M

FINEST = 15
_PROBES_PER_SIDE = 8
# A box wider than this holds more of H3's distortion than a grid of probes is sure to see.
_LOCAL_DEGREES = 5.0
# Between the probes edges differ by less than this share, see tests/udfs/test_h3_cells.py.
_LOCAL_MARGIN = 0.02
# By steps: the shortest way out of a disk anywhere over the average edge of its resolution, less a
# margin. It is next to the pentagons: 0.702 and 1.850 at the least (resolutions 3 to 15).
_SHORTEST_WAY_OUT = {1: 0.69, 2: 1.82}


@dataclass(frozen=True)
class Bounds:
    """A box in degrees that holds all points; `west <= east`."""

    south: float
    west: float
    north: float
    east: float


def cell_of(lat: Column, lon: Column, resolution: int) -> Column:
    """The cell that holds a point (bigint)."""

    @F.pandas_udf("bigint")  # type: ignore[call-overload]
    def cells(lats: pd.Series, lons: pd.Series) -> pd.Series:
        return pd.Series(_cells(lats, lons, resolution))

    return cells(lat, lon)


def disk_round(lat: Column, lon: Column, resolution: int, k: int) -> Column:
    """All cells at most `k` steps from the one that holds a point (array of bigint)."""

    @F.pandas_udf("array<bigint>")  # type: ignore[call-overload]
    def disks(lats: pd.Series, lons: pd.Series) -> pd.Series:
        cells, which = np.unique(_cells(lats, lons, resolution), return_inverse=True)
        found = np.empty(len(cells), dtype=object)
        for i, cell in enumerate(cells):
            found[i] = h3.grid_disk(np.uint64(cell), k).astype(np.int64)
        return pd.Series(found[which])

    return disks(lat, lon)


def finest_resolution(radius_m: float, k: int, bounds: Bounds) -> int | None:
    """The finest resolution whose disk of `k` steps round a point in `bounds` holds every point
    closer than `radius_m`; None where not even the coarsest one's does.
    """
    for resolution in range(FINEST, -1, -1):
        edge_m = h3.average_hexagon_edge_length(resolution, unit="m")
        if 3 * k * edge_m < radius_m:  # far too fine wherever it is
            continue
        if guaranteed_m(resolution, k, bounds) >= radius_m:
            return resolution
    return None


def guaranteed_m(resolution: int, k: int, bounds: Bounds) -> float:
    """A length such that whatever is closer to a point in `bounds` lies at most `k` (1 or 2) steps
    from the point's own cell.

    It is the shortest way from a cell to one that is more steps away: for one step an edge, for two
    an edge and across a cell. Probed in a small box, where cells differ little, else the bound of
    the whole world.
    """
    worldwide = h3.average_hexagon_edge_length(resolution, unit="m") * _SHORTEST_WAY_OUT[k]
    is_local = max(bounds.north - bounds.south, bounds.east - bounds.west) <= _LOCAL_DEGREES
    if not is_local:
        return worldwide
    lats = np.linspace(bounds.south, bounds.north, _PROBES_PER_SIDE)
    lons = np.linspace(bounds.west, bounds.east, _PROBES_PER_SIDE)
    cells = {h3.latlng_to_cell(lat, lon, resolution) for lat in lats for lon in lons}
    shortest = min(_way_out_m(cell, k) for cell in cells)
    return max(worldwide, shortest * (1 - _LOCAL_MARGIN))


@cache
def _way_out_m(cell: int, k: int) -> float:
    """From a cell to the nearest cell that is more than `k` steps away."""
    centre = h3.cell_to_latlng(cell)
    own = _plane(cell, centre)
    others = set(map(int, h3.grid_disk(cell, k + 1))) - set(map(int, h3.grid_disk(cell, k)))
    return min(_between(own, _plane(other, centre)) for other in others)


def _plane(cell: int, centre: tuple[float, float]) -> np.ndarray:
    """Corners in metres east and north of `centre`."""
    corners = np.radians(np.asarray(h3.cell_to_boundary(cell)))
    lat, lon = map(math.radians, centre)
    east = (corners[:, 1] - lon + math.pi) % (2 * math.pi) - math.pi
    return np.column_stack((east * math.cos(lat), corners[:, 0] - lat)) * EARTH_RADIUS_M


def _between(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two convex polygons that do not overlap: from a corner to a side."""
    return min(_corner_to_side(one, other), _corner_to_side(other, one))


def _corner_to_side(corners: np.ndarray, polygon: np.ndarray) -> float:
    start, end = polygon, np.roll(polygon, -1, axis=0)
    along = end - start
    offset = corners[:, None, :] - start[None, :, :]
    share = (offset * along).sum(axis=2) / (along**2).sum(axis=1)
    gap = offset - np.clip(share, 0, 1)[:, :, None] * along
    return float(np.hypot(gap[:, :, 0], gap[:, :, 1]).min())


def _cells(lats: pd.Series, lons: pd.Series, resolution: int) -> np.ndarray:
    points = zip(lats.to_numpy(), lons.to_numpy(), strict=True)
    return np.fromiter(
        (h3.latlng_to_cell(lat, lon, resolution) for lat, lon in points), np.int64, len(lats)
    )

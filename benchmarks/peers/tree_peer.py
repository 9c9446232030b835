"""Return trips with SciPy's k-d tree, the way a Python programmer would go without an engine.

Both ends of a trip as unit vectors make a point in six dimensions: pickup and drop-off for the
trips that may go back, drop-off and pickup for the outbound ones. Where both chords are shorter
than c the two points are closer than c times the root of 2, so a ball of that radius misses no pair
and finds about twice too many; numpy decides by time and haversine. Outbound trips are taken by
slabs of time, each with a tree of the trips in reach, as many slabs at once as there are cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.plain_grid import WINDOW_US
from udfs.geometry import EARTH_RADIUS_M

Array = npt.NDArray[Any]

_SLAB_US = WINDOW_US // 4
_COORDINATES = ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")


def count(path: Path, radius_m: float, *, cores: int, window_us: int = WINDOW_US) -> int:
    """The number of pairs in a Parquet file of trips."""
    table = pq.read_table(path)
    trips = {c: table[c].to_numpy() for c in (*_COORDINATES, "pickup_us", "dropoff_us")}
    if not table.num_rows:
        return 0
    by_pickup, by_dropoff = (np.argsort(trips[f"{end}_us"]) for end in ("pickup", "dropoff"))
    starts = trips["pickup_us"][by_pickup]
    ends = trips["dropoff_us"][by_dropoff]

    def pairs_of_slab(start: int) -> int:
        low, high = np.searchsorted(ends, [start, start + _SLAB_US])
        first = np.searchsorted(starts, start, side="right")
        last = np.searchsorted(starts, start + _SLAB_US - 1 + window_us)
        a, b = by_dropoff[low:high], by_pickup[first:last]
        return _pairs(trips, a, b, radius_m, window_us) if len(a) and len(b) else 0

    # Only slabs in which trips end, so that a file with a gap of years is no different.
    slabs = np.unique((ends - ends[0]) // _SLAB_US) * _SLAB_US + ends[0]
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(pairs_of_slab, slabs.tolist()))


def _pairs(trips: dict[str, Array], a: Array, b: Array, radius_m: float, window_us: int) -> int:
    from scipy.spatial import cKDTree

    pickups, dropoffs = (
        _unit(trips[f"{end}_lat"], trips[f"{end}_lon"], np.concatenate([a, b]))
        for end in ("pickup", "dropoff")
    )
    there = np.hstack([dropoffs[: len(a)], pickups[: len(a)]])
    back = np.hstack([pickups[len(a) :], dropoffs[len(a) :]])
    chord = 2 * np.sin(min(radius_m / EARTH_RADIUS_M, np.pi) / 2)
    # A hair more, for what rounding takes away.
    reach = np.sqrt(2) * (chord * (1 + 1e-6) + 1e-12)
    near = cKDTree(there).sparse_distance_matrix(cKDTree(back), reach, output_type="ndarray")
    i, j = a[near["i"]], b[near["j"]]
    wait = trips["pickup_us"][j] - trips["dropoff_us"][i]
    kept = (wait > 0) & (wait < window_us) & (i != j)
    i, j = i[kept], j[kept]
    p_lat, p_lon, d_lat, d_lon = (trips[c] for c in _COORDINATES)
    is_pair = _gap_m(d_lat[i], d_lon[i], p_lat[j], p_lon[j]) < radius_m
    is_pair &= _gap_m(p_lat[i], p_lon[i], d_lat[j], d_lon[j]) < radius_m
    return int(is_pair.sum())


def _unit(lat: Array, lon: Array, rows: Array) -> Array:
    lat, lon = np.radians(lat[rows]), np.radians(lon[rows])
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)


def _gap_m(lat_1: Array, lon_1: Array, lat_2: Array, lon_2: Array) -> Array:
    lat_1, lon_1, lat_2, lon_2 = map(np.radians, (lat_1, lon_1, lat_2, lon_2))
    h = np.sin((lat_2 - lat_1) / 2) ** 2
    h += np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.minimum(np.sqrt(h), 1)))

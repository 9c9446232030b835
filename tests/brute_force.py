"""Return trips by comparing every trip with every other, in numpy; no code of the project in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tests.made_trips import EARTH_RADIUS_M, Trip

Floats = npt.NDArray[np.float64]


def great_circle_m(lat_1: Floats, lon_1: Floats, lat_2: Floats, lon_2: Floats) -> Floats:
    """Distance by the angle between unit vectors, atan2 form: good at every distance."""

    def unit(lat: Floats, lon: Floats) -> Floats:
        lat, lon = np.radians(lat), np.radians(lon)
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)

    u, v = np.broadcast_arrays(unit(lat_1, lon_1), unit(lat_2, lon_2))
    chord = np.linalg.norm(u - v, axis=-1)
    across = np.linalg.norm(u + v, axis=-1)
    return np.asarray(EARTH_RADIUS_M * 2 * np.arctan2(chord, across))


def gaps_m(trips: Sequence[Trip], window_us: int) -> dict[tuple[int, int], float]:
    """The larger of the two gaps of every pair within the window, by (trip_id, return_trip_id)."""
    ids = np.array([t.trip_id for t in trips])
    pickup, dropoff = (
        np.array([getattr(t, c) for t in trips]) for c in ("pickup_us", "dropoff_us")
    )
    p_lat, p_lon, d_lat, d_lon = (
        np.array([getattr(t, c) for t in trips])
        for c in ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")
    )
    wait = pickup[None, :] - dropoff[:, None]
    a, b = np.nonzero((wait > 0) & (wait < window_us) & (ids[:, None] != ids[None, :]))
    gap = np.maximum(
        great_circle_m(d_lat[a], d_lon[a], p_lat[b], p_lon[b]),
        great_circle_m(p_lat[a], p_lon[a], d_lat[b], d_lon[b]),
    )
    return {(int(ids[i]), int(ids[j])): float(g) for i, j, g in zip(a, b, gap, strict=True)}

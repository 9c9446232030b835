"""The C peer against a brute force in numpy, at places where a grid can go wrong."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peers import c_peer
from tests.brute_force import gaps_m
from tests.made_trips import Trip

pytestmark = pytest.mark.skipif(c_peer.compiler() is None, reason="no C compiler (cc, gcc, clang)")

WINDOW = 1000
COLUMNS = {
    "pickup": "pickup_us",
    "dropoff": "dropoff_us",
    **{c: c for c in ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")},
}


def found(trips: list[Trip], radius_m: float) -> set[tuple[int, int]]:
    columns = {k: np.array([getattr(t, c) for t in trips]) for k, c in COLUMNS.items()}
    count, a, b = c_peer.return_trips(columns, radius_m=radius_m, window=WINDOW, pairs=10**6)
    assert count == len(a)
    return set(zip(a.tolist(), b.tolist(), strict=True))


def test_one_pair_by_hand() -> None:
    # Home to work, and back 5 later; the third leaves at the very end of the window, which is open.
    home, work = (40.75, -73.99), (40.70, -74.01)
    out = Trip(0, 0, 10, *home, *work)
    back = Trip(1, 15, 20, *work, *home)
    late = Trip(2, 10 + WINDOW, 2000, *work, *home)
    assert found([out, back, late], 50.0) == {(0, 1)}
    assert found([], 50.0) == set()


@pytest.mark.parametrize("radius_m", [1.0, 200.0, 20_000.0, 9_000_000.0, 21_000_000.0])
@pytest.mark.parametrize(
    ("lat", "lon"), [(40.75, -73.99), (0.0, 0.0), (60.0, 180.0), (90.0, 0.0), (-89.999, 50.0)]
)
def test_it_agrees_with_brute_force(lat: float, lon: float, radius_m: float) -> None:
    random = np.random.default_rng(int(radius_m) + abs(int(lat)))
    n, degrees = 300, np.degrees(2 * min(radius_m, 5e6) / 6_371_000)
    lats = np.clip(lat + random.uniform(-degrees, degrees, (n, 2)), -90, 90)
    east = random.uniform(-degrees, degrees, (n, 2)) / np.maximum(np.cos(np.radians(lats)), 1e-6)
    lons = (lon + east + 180) % 360 - 180
    start = random.integers(0, 3 * WINDOW, n)
    trips = [
        Trip(
            i, int(start[i]), int(start[i] + i % 7), lats[i, 0], lons[i, 0], lats[i, 1], lons[i, 1]
        )
        for i in range(n)
    ]
    gaps = gaps_m(trips, WINDOW)
    pairs = found(trips, radius_m)
    assert pairs >= {p for p, gap in gaps.items() if gap < radius_m - 1e-6}
    assert pairs <= {p for p, gap in gaps.items() if gap < radius_m + 1e-6}

"""A crowd of trips between two places, with the gaps of its pairs by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.data import write_trips
from benchmarks.plain_grid import WINDOW_US
from tests.brute_force import gaps_m
from tests.made_trips import MIDNIGHT, Trip, us

HOUR_US = 3600 * 10**6


def crowd() -> list[Trip]:
    """600 trips of two days between two places some hundred metres wide, either way."""
    random = np.random.default_rng(5)
    home, work = (40.75, -73.99), (40.70, -74.01)
    trips = []
    for i in range(600):
        start = us(MIDNIGHT) + int(random.integers(0, 48 * HOUR_US))
        ends = (home, work) if random.random() < 0.5 else (work, home)
        (a, b), (c, d) = (e + random.normal(0, 0.001, 2) for e in ends)
        trips.append(Trip(i, start, start + int(random.integers(0, HOUR_US)), a, b, c, d))
    return trips


def crowd_file(path: Path) -> Path:
    """The crowd as a Parquet file that contenders read."""
    trips = crowd()
    columns = {name: np.array([getattr(t, name) for t in trips]) for name in Trip.__annotations__}
    return write_trips(columns, path)


def gaps(window_us: int = WINDOW_US) -> list[float]:
    """The larger of the two gaps of every pair within the window."""
    return list(gaps_m(crowd(), window_us).values())

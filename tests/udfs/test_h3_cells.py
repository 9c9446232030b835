"""H3 cells from Arrow, and that a disk reaches as far as is promised."""

from __future__ import annotations

import math

import h3.api.numpy_int as h3
import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.frames import frame_of
from udfs.geometry import EARTH_RADIUS_M
from udfs.h3_cells import Bounds, cell_of, disk_round, finest_resolution, guaranteed_m

NEW_YORK = Bounds(40.0, -75.0, 42.0, -72.0)
WORLD = Bounds(-90.0, -180.0, 90.0, 180.0)


def test_cells_and_disks(spark: SparkSession) -> None:
    points = [(40.75, -73.99), (40.75, -73.99), (-12.0, 179.99), (90.0, 0.0)]
    lat, lon = F.col("lat"), F.col("lon")
    rows = frame_of(spark, points, "lat DOUBLE, lon DOUBLE").select(
        cell_of(lat, lon, 9).alias("cell"), disk_round(lat, lon, 9, 1).alias("disk")
    )
    found = rows.collect()
    cells = [h3.latlng_to_cell(*p, 9) for p in points]
    assert [r["cell"] for r in found] == cells
    assert [set(r["disk"]) for r in found] == [set(map(int, h3.grid_disk(c, 1))) for c in cells]


def test_new_york_is_better_than_the_worst_place() -> None:
    # 194 m and 74 m by H3's own cells there; the average edges are 201 m and 76 m.
    assert 185 < guaranteed_m(9, 1, NEW_YORK) < 194
    assert 70 < guaranteed_m(10, 1, NEW_YORK) < 74
    assert 138 < guaranteed_m(9, 1, WORLD) < 141
    assert [finest_resolution(r, 1, NEW_YORK) for r in (180, 200)] == [9, 8]
    assert finest_resolution(180, 1, WORLD) == 8
    assert [finest_resolution(180, 2, b) for b in (NEW_YORK, WORLD)] == [10, 9]
    assert finest_resolution(5_000_000, 2, WORLD) is None


@pytest.mark.parametrize("bounds", [NEW_YORK, WORLD], ids=["New York", "the world"])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("resolution", [0, 3, 7, 9, 12])
def test_whatever_is_closer_than_promised_lies_in_the_disk(
    resolution: int, k: int, bounds: Bounds
) -> None:
    reach_m = guaranteed_m(resolution, k, bounds)
    dice = np.random.default_rng(resolution)
    pentagons = [h3.cell_to_latlng(p) for p in h3.get_pentagons(resolution)]
    for i in range(2000):
        lat = dice.uniform(bounds.south, bounds.north)
        lon = dice.uniform(bounds.west, bounds.east)
        if bounds is WORLD and i % 2:  # round the pentagons, where cells are smallest
            lat, lon = pentagons[i % 12]
            lat, lon = moved(lat, lon, dice.uniform(0, 5 * reach_m), dice.uniform(0, 2 * math.pi))
        there = moved(lat, lon, reach_m * dice.uniform(0.9, 1), dice.uniform(0, 2 * math.pi))
        cell = h3.latlng_to_cell(lat, lon, resolution)
        assert h3.latlng_to_cell(*there, resolution) in h3.grid_disk(cell, k), (lat, lon, there)


def moved(lat: float, lon: float, length_m: float, bearing: float) -> tuple[float, float]:
    """The point `length_m` from another in a direction (radians), on the sphere."""
    angle = length_m / EARTH_RADIUS_M
    lat, lon = math.radians(lat), math.radians(lon)
    north = math.asin(
        math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(bearing)
    )
    east = lon + math.atan2(
        math.sin(bearing) * math.sin(angle) * math.cos(lat),
        math.cos(angle) - math.sin(lat) * math.sin(north),
    )
    return math.degrees(north), (math.degrees(east) + 180) % 360 - 180

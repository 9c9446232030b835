"""What the picture of return trips shows, aggregated in Spark to the size of the picture.

Rows never leave the executors one by one: points are counted by pixel, waits by bin, trips by hour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

M_PER_DEGREE = 111_195.0  # of latitude on a sphere of 6 371 km
_LEAST_SIDE_M = 2_000.0  # a view of a single point still shows something round it
_MARGIN = 0.04
_ACCURACY = 2_000  # of percentiles: the 2000th part of the rows


@dataclass(frozen=True)
class View:
    """A window on the ground, north up, `width_px` by `height_px` pixels, borders in degrees.

    A degree of longitude is drawn cos(latitude) as wide as one of latitude, so that a kilometre
    is as long eastwards as northwards.
    """

    min_lat: float
    min_lon: float
    max_lat: float
    max_lon: float
    width_px: int
    height_px: int

    @property
    def m_per_px(self) -> float:
        return (self.max_lat - self.min_lat) * M_PER_DEGREE / self.height_px


def starts_of_returns(trips: DataFrame, pairs: DataFrame) -> DataFrame:
    """Where return trips start (lat, lon): each trip that is a return of some trip, once."""
    returns = pairs.select(F.col("return_trip_id").alias("trip_id")).distinct()
    return trips.join(returns, "trip_id", "leftsemi").select(
        F.col("pickup_lat").alias("lat"), F.col("pickup_lon").alias("lon")
    )


def view_of(
    points: DataFrame, shares: Sequence[float], sizes: Sequence[tuple[int, int]]
) -> list[View]:
    """Windows, one for each share, that leave out half of the rest of the points on each side.

    A share of 0.99 leaves out the half per cent that lies farthest north, and so on. `sizes` are
    (width, height) in pixels. Empty where there is no point.
    """
    tails = [q for s in shares for q in ((1 - s) / 2, (1 + s) / 2)]
    lat, lon = points.select(
        F.percentile_approx("lat", tails, _ACCURACY), F.percentile_approx("lon", tails, _ACCURACY)
    ).collect()[0]
    if lat is None:
        return []
    return [
        _window(lat[2 * i], lat[2 * i + 1], lon[2 * i], lon[2 * i + 1], *size)
        for i, size in enumerate(sizes)
    ]


def _window(
    south: float, north: float, west: float, east: float, width_px: int, height_px: int
) -> View:
    middle_lat, middle_lon = (south + north) / 2, (west + east) / 2
    m_per_lon = M_PER_DEGREE * max(math.cos(math.radians(middle_lat)), 1e-6)
    high_m = max((north - south) * M_PER_DEGREE * (1 + 2 * _MARGIN), _LEAST_SIDE_M)
    wide_m = max((east - west) * m_per_lon * (1 + 2 * _MARGIN), _LEAST_SIDE_M)
    m_per_px = max(high_m / height_px, wide_m / width_px)
    half_lat = m_per_px * height_px / 2 / M_PER_DEGREE
    half_lon = m_per_px * width_px / 2 / m_per_lon
    return View(
        middle_lat - half_lat,
        middle_lon - half_lon,
        middle_lat + half_lat,
        middle_lon + half_lon,
        width_px,
        height_px,
    )


def pixels(points: DataFrame, view: View) -> DataFrame:
    """How many points lie in each pixel of the view: x from the west, y from the north, count.

    At most width x height rows, whatever the number of points.
    """
    x = F.floor((F.col("lon") - view.min_lon) / (view.max_lon - view.min_lon) * view.width_px)
    y = F.floor((view.max_lat - F.col("lat")) / (view.max_lat - view.min_lat) * view.height_px)
    return (
        points.select(x.cast("int").alias("x"), y.cast("int").alias("y"))
        .where(F.col("x").between(0, view.width_px - 1) & F.col("y").between(0, view.height_px - 1))
        .groupBy("x", "y")
        .agg(F.count(F.lit(1)).alias("count"))
    )


def waits(pairs: DataFrame, bin_s: int) -> DataFrame:
    """Pairs by smallest radius and by wait: radius_m, bin (0 for waits below bin_s), pairs."""
    return pairs.groupBy("radius_m", F.floor(F.col("wait_s") / bin_s).cast("int").alias("bin")).agg(
        F.count(F.lit(1)).alias("pairs")
    )


def by_hour(stats: DataFrame) -> DataFrame:
    """All days together: radius_m, hour (local), trips, pairs, trips_with_return."""
    return stats.groupBy("radius_m", "hour").agg(
        F.sum("trips").alias("trips"),
        F.sum("pairs").alias("pairs"),
        F.sum("trips_with_return").alias("trips_with_return"),
    )

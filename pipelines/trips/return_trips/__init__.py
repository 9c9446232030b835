"""Return trips: pairs of trips of which the second goes back the way the first came.

Trip b is a return trip of trip a if and only if

    0 < b.pickup_at - a.dropoff_at < window
    haversine(a.dropoff, b.pickup) < r
    haversine(a.pickup, b.dropoff) < r

strictly, on the sphere of `udfs.geometry`, and a and b are two trips. One join at the largest
radius answers all radii.

Every method is a module with one function, `pairs(outbound, inbound, *, radius_m, window_us)`,
that takes two tables of `geometry_of` and returns the columns `PAIR_COLUMNS`; all give the same
rows, because each decides with the same haversine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.trips.return_trips import bucketed, h3, naive, native, sedona
from pipelines.trips.return_trips.choice import AUTO, choose, count_trips
from pipelines.trips.return_trips.intervals import ALWAYS, Interval, prolonged, within
from pipelines.trips.return_trips.radii import checked_radii, smallest_radius
from schemas import RETURN_TRIPS

RADII_M = (50, 100, 150, 200)
WINDOW = timedelta(hours=8)

METHODS: dict[str, Callable[..., DataFrame]] = {
    "bucketed": bucketed.pairs,
    "h3": h3.pairs,
    "naive": naive.pairs,
    "native": native.pairs,
    "sedona": sedona.pairs,
}


def find_return_trips(
    trips: DataFrame,
    *,
    radii_m: Sequence[int] = RADII_M,
    window: timedelta = WINDOW,
    method: str = AUTO,
    intervals: Sequence[Interval] = ALWAYS,
) -> DataFrame:
    """Rows of gold.return_trips: one per pair, with the smallest of `radii_m` that it satisfies.

    `trips` has the columns of silver.trips that the pairs depend on: trip_id, pickup_at,
    dropoff_at and the four coordinates in degrees, none of them NULL. A pair counts where its
    outbound trip ended in one of the `intervals`; the trips that go back are looked for in `trips`
    up to `window` later. `radii_m` are whole metres above 0. `method` is one of METHODS, or `auto`,
    which counts the trips where the native kernel is missing. Raises UsageError for an unknown
    method or impossible radii or window.
    """
    if method != AUTO and method not in METHODS:
        raise UsageError(f"no method {method!r}: use {AUTO}, or one of {', '.join(METHODS)}")
    radii = checked_radii(radii_m)
    if window <= timedelta(0):
        raise UsageError(f"the window must be longer than 0, not {window}")
    outbound, inbound = sides(trips, window=window, intervals=intervals)
    if method == AUTO:
        method = choose(trips.sparkSession, lambda: count_trips(outbound, inbound)).method
    found = METHODS[method](outbound, inbound, radius_m=float(radii[-1]), window_us=micros(window))
    return rows_of(found, radii)


def sides(
    trips: DataFrame, *, window: timedelta = WINDOW, intervals: Sequence[Interval] = ALWAYS
) -> tuple[DataFrame, DataFrame]:
    """Outbound and inbound trips of the intervals, reduced to what a join needs."""
    return (
        geometry_of(trips.where(within("dropoff_at", intervals))),
        geometry_of(trips.where(within("pickup_at", prolonged(intervals, window)))),
    )


def geometry_of(trips: DataFrame) -> DataFrame:
    """trip_id, pickup_us, dropoff_us (microseconds since 1970, UTC), and the four coordinates."""
    return trips.select(
        "trip_id",
        F.unix_micros("pickup_at").alias("pickup_us"),
        F.unix_micros("dropoff_at").alias("dropoff_us"),
        "pickup_lat",
        "pickup_lon",
        "dropoff_lat",
        "dropoff_lon",
    )


def micros(length: timedelta) -> int:
    """A length of time in whole microseconds."""
    return length // timedelta(microseconds=1)


def rows_of(found: DataFrame, radii_m: Sequence[int]) -> DataFrame:
    """Rows of gold.return_trips from `PAIR_COLUMNS`, found at the largest of `radii_m`."""
    gap_m = F.greatest("dropoff_gap_m", "pickup_gap_m")
    rows = found.select(
        "trip_id",
        "return_trip_id",
        F.timestamp_micros("dropoff_us").alias("dropoff_at"),
        (F.col("wait_us") / 1e6).alias("wait_s"),
        "dropoff_gap_m",
        "pickup_gap_m",
        smallest_radius(gap_m, radii_m).alias("radius_m"),
    )
    return RETURN_TRIPS.conform(rows)

"""Small tables of trips for tests: by hand, by Hypothesis, and from columns in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import TRIPS
from schemas.frames import frame_of

MIDNIGHT = datetime(2015, 12, 1, 5, tzinfo=UTC)  # of New York
EARTH_RADIUS_M = 6_371_000.0


@dataclass(frozen=True)
class Trip:
    """A trip; times are microseconds since 1970, UTC."""

    trip_id: int
    pickup_us: int
    dropoff_us: int
    pickup_lat: float
    pickup_lon: float
    dropoff_lat: float
    dropoff_lon: float


def us(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def trips_frame(spark: SparkSession, trips: Sequence[Trip]) -> DataFrame:
    """The columns of silver.trips on which return trips depend."""
    schema = (
        "trip_id BIGINT, pickup_us BIGINT, dropoff_us BIGINT, pickup_lat DOUBLE, "
        "pickup_lon DOUBLE, dropoff_lat DOUBLE, dropoff_lon DOUBLE"
    )
    rows = frame_of(spark, [astuple(t) for t in trips], schema)
    return rows.select(
        "trip_id",
        F.timestamp_micros("pickup_us").alias("pickup_at"),
        F.timestamp_micros("dropoff_us").alias("dropoff_at"),
        "pickup_lat",
        "pickup_lon",
        "dropoff_lat",
        "dropoff_lon",
    )


def north_m(length_m: float) -> float:
    """Degrees of latitude in `length_m` metres."""
    return math.degrees(length_m / EARTH_RADIUS_M)


# Where a grid can go wrong: an ordinary city, the origin, the antimeridian at several latitudes,
# both poles and just beside them.
_PLACES = (
    (40.75, -73.99),
    (0.0, 0.0),
    (12.0, 180.0),
    (-45.0, -180.0),
    (60.0, 179.9995),
    (90.0, 0.0),
    (-90.0, 77.0),
    (89.9995, -120.0),
    (-89.99, 10.0),
)
_STEPS = (0.0, 0.0, 0.3, 0.5, 0.9, 1.0, 1.1, 2.0)  # in radii


@st.composite
def _point(draw: st.DrawFn, place: tuple[float, float], radius_m: float) -> tuple[float, float]:
    north = draw(st.sampled_from(_STEPS)) * draw(st.sampled_from((-1, 1))) * radius_m
    east = draw(st.sampled_from(_STEPS)) * draw(st.sampled_from((-1, 1))) * radius_m
    lat = max(-90.0, min(90.0, place[0] + north_m(north)))
    shrink = max(math.cos(math.radians(lat)), 1e-9)
    lon = place[1] + math.degrees(east / EARTH_RADIUS_M / shrink)
    return lat, (lon + 180.0) % 360.0 - 180.0


@st.composite
def worlds(draw: st.DrawFn, radius_m: float, window_us: int) -> list[list[float]]:
    """Some trips between two places that may well be return trips of each other.

    Each is [pickup_us, dropoff_us, pickup_lat, pickup_lon, dropoff_lat, dropoff_lon], the times
    from 0 on. Duplicates, equal times and waits of exactly the window are likely.
    """
    home, work = draw(st.sampled_from(_PLACES)), draw(st.sampled_from(_PLACES))
    moments = st.sampled_from((0, 1, window_us // 2, window_us - 1, window_us, window_us + 1))
    trips = []
    for _ in range(draw(st.integers(2, 6))):
        there, back = (home, work) if draw(st.booleans()) else (work, home)
        start = draw(moments)
        end = start + draw(st.sampled_from((0, 1, window_us // 3)))
        trips.append([start, end, *draw(_point(there, radius_m)), *draw(_point(back, radius_m))])
        if draw(st.integers(0, 4)) == 0:
            trips.append(list(trips[-1]))
    return trips


def apart(many: Sequence[Sequence[Sequence[float]]], window_us: int) -> list[Trip]:
    """All worlds in one table, so far apart in time that no trip returns from another's."""
    trips: list[Trip] = []
    for n, world in enumerate(many):
        base = us(MIDNIGHT) + n * 10 * window_us
        trips += [
            Trip(len(trips) + i, base + int(t[0]), base + int(t[1]), *t[2:])
            for i, t in enumerate(world)
        ]
    return trips


def commuters(count: int) -> list[Trip]:
    """Somebody sets off every 3 minutes from midnight, one way and the other in turn."""
    home, work = (40.75, -73.99), (40.70, -74.01)
    minute_us = 60 * 10**6
    trips = []
    for i in range(count):
        there, back = (home, work) if i % 2 else (work, home)
        start, off = us(MIDNIGHT) + 3 * i * minute_us, north_m(i % 7 * 30)
        end = start + 17 * minute_us
        trips.append(Trip(i, start, end, there[0] + off, there[1], back[0] - off, back[1]))
    return trips


def silver_trips(spark: SparkSession, trips: Sequence[Trip]) -> DataFrame:
    """Rows of silver.trips whose optional columns are NULL."""
    return as_silver(trips_frame(spark, trips))


def as_silver(trips: DataFrame) -> DataFrame:
    """Rows of silver.trips from the columns of `trips_frame`."""
    known = trips.withColumns(
        {
            "day": F.to_date(F.from_utc_timestamp("pickup_at", "America/New_York")),
            "file_id": F.lit("0" * 64),
            "source_row": F.col("trip_id"),
        }
    )
    missing = [c for c in TRIPS.columns if c.name not in known.columns]
    return known.withColumns({c.name: F.lit(None).cast(c.type) for c in missing})

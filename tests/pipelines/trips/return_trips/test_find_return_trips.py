"""The contract of return trips, on tables small enough to check by hand; every method alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.trips.return_trips import METHODS, find_return_trips
from tests.made_trips import MIDNIGHT, Trip, north_m, trips_frame, us

HOUR = 3600 * 10**6
NOON = us(MIDNIGHT) + 12 * HOUR
HOME, WORK = (40.75, -73.99), (40.70, -74.01)

# Drives from home to work and arrives at 12:20; the way back starts at 13:00.
OUT = Trip(1, NOON, NOON + HOUR // 3, *HOME, *WORK)
BACK = Trip(2, NOON + HOUR, NOON + HOUR * 4 // 3, *WORK, *HOME)


@pytest.fixture(params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def found(
    spark: SparkSession, method: str, *trips: Trip, **kwargs: object
) -> list[tuple[int, ...]]:
    rows = find_return_trips(trips_frame(spark, trips), method=method, **kwargs)  # type: ignore[arg-type]
    return sorted((r["trip_id"], r["return_trip_id"], r["radius_m"]) for r in rows.collect())


def test_the_way_back_is_found_with_its_wait_and_gaps(spark: SparkSession, method: str) -> None:
    # 30 m north of the drop-off and 120 m north of the pickup.
    back = replace(BACK, pickup_lat=WORK[0] + north_m(30), dropoff_lat=HOME[0] + north_m(120))
    (row,) = find_return_trips(trips_frame(spark, [OUT, back]), method=method).collect()
    assert (row["trip_id"], row["return_trip_id"], row["radius_m"]) == (1, 2, 150)
    assert row["wait_s"] == 2400.0
    assert row["dropoff_gap_m"] == pytest.approx(30, abs=1e-6)
    assert row["pickup_gap_m"] == pytest.approx(120, abs=1e-6)
    assert us(row["dropoff_at"].astimezone(MIDNIGHT.tzinfo)) == OUT.dropoff_us


def test_the_window_is_open_at_both_ends(spark: SparkSession, method: str) -> None:
    at_once = replace(BACK, trip_id=3, pickup_us=OUT.dropoff_us)
    next_us = replace(BACK, trip_id=4, pickup_us=OUT.dropoff_us + 1)
    last_us = replace(BACK, trip_id=5, pickup_us=OUT.dropoff_us + 8 * HOUR - 1)
    too_late = replace(BACK, trip_id=6, pickup_us=OUT.dropoff_us + 8 * HOUR)
    trips = [replace(t, dropoff_us=t.pickup_us + 1) for t in (at_once, next_us, last_us, too_late)]
    assert found(spark, method, OUT, *trips) == [(1, 4, 50), (1, 5, 50)]


def test_both_ends_must_be_near(spark: SparkSession, method: str) -> None:
    far_start = replace(BACK, trip_id=3, pickup_lat=WORK[0] + north_m(201))
    far_end = replace(BACK, trip_id=4, dropoff_lat=HOME[0] + north_m(201))
    near = replace(BACK, trip_id=5, pickup_lat=WORK[0] + north_m(199))
    assert found(spark, method, OUT, far_start, far_end, near) == [(1, 5, 200)]


def test_identical_rows_are_two_trips(spark: SparkSession, method: str) -> None:
    twin = replace(BACK, trip_id=3)
    assert found(spark, method, OUT, BACK, twin) == [(1, 2, 50), (1, 3, 50)]


def test_a_trip_is_no_return_of_itself(spark: SparkSession, method: str) -> None:
    # A negative duration, which silver.trips never holds, would make a round trip its own return.
    loop = Trip(1, NOON + HOUR, NOON, *HOME, *HOME)
    assert found(spark, method, loop) == []


def test_the_smallest_radius_is_that_of_the_larger_gap(spark: SparkSession, method: str) -> None:
    trips = [
        replace(BACK, trip_id=10 + i, dropoff_lat=HOME[0] + north_m(gap))
        for i, gap in enumerate((0, 49.9, 50.1, 99.9, 100.1, 199.9, 200.1))
    ]
    assert found(spark, method, OUT, *trips) == [
        (1, 10, 50),
        (1, 11, 50),
        (1, 12, 100),
        (1, 13, 100),
        (1, 14, 150),
        (1, 15, 200),
    ]


def test_an_interval_takes_trips_that_ended_in_it_and_returns_beyond_it(
    spark: SparkSession, method: str
) -> None:
    at = MIDNIGHT + timedelta(hours=12, minutes=20)  # OUT's drop-off
    assert found(spark, method, OUT, BACK, start=at) == [(1, 2, 50)]  # the start is included
    assert found(spark, method, OUT, BACK, end=at) == []  # the end is not
    # BACK begins 40 minutes after the interval has ended.
    later = at + timedelta(microseconds=1)
    assert found(spark, method, OUT, BACK, start=at, end=later) == [(1, 2, 50)]


def test_no_trips_give_no_pairs(spark: SparkSession, method: str) -> None:
    assert found(spark, method) == []


@pytest.mark.parametrize("radii", [(), (0,), (-50,), (50, 0.5)])
def test_impossible_radii_are_refused(spark: SparkSession, radii: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="whole metres above 0"):
        find_return_trips(trips_frame(spark, []), radii_m=radii)


def test_an_impossible_window_or_method_is_refused(spark: SparkSession) -> None:
    with pytest.raises(UsageError, match="longer than 0"):
        find_return_trips(trips_frame(spark, []), window=timedelta(0))
    with pytest.raises(UsageError, match="no method 'magic': use one of"):
        find_return_trips(trips_frame(spark, []), method="magic")

"""The contract of return trips, on tables small enough to check by hand; every method alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.trips.return_trips import METHODS, find_return_trips
from pipelines.trips.return_trips.intervals import Interval
from tests.made_trips import MIDNIGHT, Trip, north_m, trips_frame, us

HOUR = 3600 * 10**6
NOON = us(MIDNIGHT) + 12 * HOUR
HOME, WORK = (40.75, -73.99), (40.70, -74.01)

# Drives from home to work and arrives at 12:20; the way back starts at 13:00.
OUT = Trip(1, NOON, NOON + HOUR // 3, *HOME, *WORK)
BACK = Trip(2, NOON + HOUR, NOON + HOUR * 4 // 3, *WORK, *HOME)


def back(trip_id: int, **changes: float) -> Trip:
    return replace(BACK, trip_id=trip_id, **changes)  # type: ignore[arg-type]


def beside(trip_id: int, pickup_m: float = 0, dropoff_m: float = 0) -> Trip:
    """The way back, begun and ended so many metres north of where OUT ended and began."""
    return back(
        trip_id,
        pickup_lat=WORK[0] + north_m(pickup_m),
        dropoff_lat=HOME[0] + north_m(dropoff_m),
    )


def at(trip_id: int, us_after_arrival: int) -> Trip:
    start = OUT.dropoff_us + us_after_arrival
    return back(trip_id, pickup_us=start, dropoff_us=start + 1)


# Trips, and the (trip, return trip, smallest radius) that are to be found among them.
CASES: dict[str, tuple[list[Trip], list[tuple[int, int, int]]]] = {
    "the way back": ([OUT, beside(2, 30, 120)], [(1, 2, 150)]),
    "the window is open at both ends": (
        [OUT, at(3, 0), at(4, 1), at(5, 8 * HOUR - 1), at(6, 8 * HOUR)],
        [(1, 4, 50), (1, 5, 50)],
    ),
    "both ends must be near": (
        [OUT, beside(3, pickup_m=201), beside(4, dropoff_m=201), beside(5, pickup_m=199)],
        [(1, 5, 200)],
    ),
    "identical rows are two trips": ([OUT, BACK, back(3)], [(1, 2, 50), (1, 3, 50)]),
    # A negative duration, which silver.trips never holds, would make a round trip its own return.
    "a trip is no return of itself": ([Trip(1, NOON + HOUR, NOON, *HOME, *HOME)], []),
    "the smallest radius is that of the larger gap": (
        [
            OUT,
            *(
                beside(10 + i, dropoff_m=gap)
                for i, gap in enumerate((0, 49.9, 50.1, 99.9, 100.1, 199.9, 200.1))
            ),
        ],
        [(1, 10, 50), (1, 11, 50), (1, 12, 100), (1, 13, 100), (1, 14, 150), (1, 15, 200)],
    ),
    "180 and -180 are one meridian": (
        [
            replace(OUT, dropoff_lat=12.0, dropoff_lon=180.0),
            back(2, pickup_lat=12.0, pickup_lon=-179.9999),
            back(3, pickup_lat=12.0, pickup_lon=-180.0),
            back(4, pickup_lat=12.0, pickup_lon=180.0),
        ],
        [(1, 2, 50), (1, 3, 50), (1, 4, 50)],
    ),
    "one trip alone": ([OUT], []),
}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_cases_checked_by_hand(spark: SparkSession, method: str) -> None:
    # All in one table, each two days after the one before, because a query costs more than rows.
    trips = [
        replace(
            trip,
            trip_id=100 * i + trip.trip_id,
            pickup_us=trip.pickup_us + 48 * HOUR * i,
            dropoff_us=trip.dropoff_us + 48 * HOUR * i,
        )
        for i, (case, _) in enumerate(CASES.values())
        for trip in case
    ]
    rows = find_return_trips(trips_frame(spark, trips), method=method).collect()
    found = {
        name: sorted(
            (r["trip_id"] % 100, r["return_trip_id"] % 100, r["radius_m"])
            for r in rows
            if r["trip_id"] // 100 == i
        )
        for i, name in enumerate(CASES)
    }
    assert found == {name: pairs for name, (_, pairs) in CASES.items()}
    (row,) = (r for r in rows if r["trip_id"] == 1)
    assert row["return_trip_id"] == 2
    assert row["wait_s"] == 2400.0
    assert row["dropoff_gap_m"] == pytest.approx(30, abs=1e-6)
    assert row["pickup_gap_m"] == pytest.approx(120, abs=1e-6)
    assert us(row["dropoff_at"].astimezone(MIDNIGHT.tzinfo)) == OUT.dropoff_us


def test_an_interval_takes_trips_that_ended_in_it_and_returns_beyond_it(
    spark: SparkSession,
) -> None:
    def found(*intervals: Interval) -> list[tuple[int, int]]:
        rows = find_return_trips(trips_frame(spark, [OUT, BACK]), intervals=intervals)
        return [(r["trip_id"], r["return_trip_id"]) for r in rows.collect()]

    arrival = MIDNIGHT + timedelta(hours=12, minutes=20)
    assert found(Interval(start=arrival)) == [(1, 2)]  # the start is included
    assert found(Interval(end=arrival)) == []  # the end is not
    assert found() == []
    # BACK begins 40 minutes after the interval has ended.
    moment = Interval(arrival, arrival + timedelta(microseconds=1))
    assert found(moment) == [(1, 2)]
    assert found(Interval(end=arrival), moment) == [(1, 2)]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_trips_give_no_pairs(spark: SparkSession, method: str) -> None:
    assert find_return_trips(trips_frame(spark, []), method=method).isEmpty()


@pytest.mark.parametrize("radii", [(), (0,), (-50,), (50, 0.5)])
def test_impossible_radii_are_refused(spark: SparkSession, radii: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="whole metres above 0"):
        find_return_trips(trips_frame(spark, []), radii_m=radii)


def test_an_impossible_window_or_method_is_refused(spark: SparkSession) -> None:
    with pytest.raises(UsageError, match="longer than 0"):
        find_return_trips(trips_frame(spark, []), window=timedelta(0))
    with pytest.raises(UsageError, match="no method 'magic': use auto, or one of"):
        find_return_trips(trips_frame(spark, []), method="magic")

"""Intervals: merging, SQL, and that a change touches every hour whose pairs it changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.trips.return_trips.intervals import (
    ALWAYS,
    Interval,
    in_whole_hours,
    merged,
    prolonged,
    sql_within,
    touched_by,
    within,
)
from tests.made_trips import Trip, trips_frame

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3600 * 10**6


def at(hours: float) -> datetime:
    return EPOCH + timedelta(hours=hours)


def between(start: float | None, end: float | None) -> Interval:
    return Interval(None if start is None else at(start), None if end is None else at(end))


limits = st.one_of(st.none(), st.integers(-20, 20))
intervals = st.tuples(limits, limits).map(
    lambda x: between(*(sorted(x) if None not in x else x))  # type: ignore[type-var]
)


def holds(some: list[Interval], hour: float) -> bool:
    t = at(hour)
    return any((i.start is None or i.start <= t) and (i.end is None or t < i.end) for i in some)


@given(st.lists(intervals, max_size=6))
def test_merging_keeps_every_time_and_leaves_gaps_between(some: list[Interval]) -> None:
    found = merged(some)
    for half_hour in range(-50, 51):
        assert holds(found, half_hour / 2) == holds(some, half_hour / 2)
    for before, after in pairwise(found):
        assert before.end is not None
        assert after.start is not None
        assert before.end < after.start


def test_whole_hours_and_prolonging_join_what_then_meets() -> None:
    some = [between(1.5, 2), between(3.25, 4.5)]
    assert in_whole_hours(some) == [between(1, 2), between(3, 5)]
    assert in_whole_hours([between(-0.5, None)]) == [between(-1, None)]
    assert prolonged(some, timedelta(hours=1.25)) == [between(1.5, 5.75)]
    assert prolonged(ALWAYS, timedelta(hours=1)) == [Interval()]


def test_sql_is_half_open_and_holds_nothing_for_no_interval(spark: SparkSession) -> None:
    assert sql_within("t", ALWAYS) == "true"
    times = spark.range(-2, 6).select(F.timestamp_seconds(F.col("id") * 3600).alias("t"))

    def hours(*some: Interval) -> list[int]:
        rows = times.where(within("t", some)).select(F.unix_seconds("t") / 3600).collect()
        return sorted(int(r[0]) for r in rows)

    assert hours(between(-1, 1), between(3, None)) == [-1, 0, 3, 4, 5]
    assert hours(between(None, 0)) == [-2, -1]
    assert hours() == []


@pytest.mark.parametrize(
    ("pickup_us", "dropoff_us", "expected"),
    [
        # Began at 20:00: trips that ended from 12:00 to just before, and its own end in hour 21.
        (20 * HOUR_US, 21 * HOUR_US, [between(12, 20), between(21, 22)]),
        (20 * HOUR_US + 1, 20 * HOUR_US + 2, [between(12, 21)]),
        # A trip of two days, before 1970.
        (-48 * HOUR_US, 0, [between(-56, -48), between(0, 1)]),
    ],
)
def test_a_trip_touches_its_own_hour_and_the_window_before_it(
    spark: SparkSession, pickup_us: int, dropoff_us: int, expected: list[Interval]
) -> None:
    trips = trips_frame(spark, [Trip(1, pickup_us, dropoff_us, 0.0, 0.0, 0.0, 0.0)])
    assert touched_by(trips, 8 * HOUR_US) == expected
    assert touched_by(trips.limit(0), 8 * HOUR_US) == []

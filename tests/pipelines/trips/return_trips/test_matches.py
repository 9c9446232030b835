"""One return for each trip: which one, on ties too, and the trips that have none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyspark.sql import SparkSession

from pipelines.trips.return_trips import find_return_trips
from pipelines.trips.return_trips.matches import one_each, with_unmatched
from tests.made_trips import MIDNIGHT, Trip, north_m, trips_frame, us

HOUR = 3600 * 10**6
NOON = us(MIDNIGHT) + 12 * HOUR
HOME, WORK = (40.75, -73.99), (40.70, -74.01)
OUT = Trip(1, NOON, NOON + HOUR // 3, *HOME, *WORK)


def back(trip_id: int, after_h: float, gap_m: float) -> Trip:
    """A way back, so many hours after OUT has ended, to a door so far from where OUT began."""
    start = OUT.dropoff_us + int(after_h * HOUR)
    return Trip(trip_id, start, start + HOUR // 3, *WORK, HOME[0] + north_m(gap_m), HOME[1])


# Returns of OUT, then the first and the nearest of them.
CASES = {
    "the sooner is not the nearer": ([back(2, 1, 120), back(3, 2, 20)], 2, 3),
    "as soon: the nearer, then the smaller id": (
        [back(5, 1, 40), back(4, 1, 30), back(3, 1, 30)],
        3,
        3,
    ),
    "as near: the sooner": ([back(2, 3, 30), back(9, 2, 30)], 9, 9),
}


@pytest.mark.parametrize("case", CASES)
def test_the_return_that_is_chosen(spark: SparkSession, case: str) -> None:
    returns, first, nearest = CASES[case]
    pairs = find_return_trips(trips_frame(spark, [OUT, *returns]))
    chosen = {
        match: [(r["trip_id"], r["return_trip_id"]) for r in one_each(pairs, match).collect()]
        for match in ("first", "nearest")
    }
    assert chosen == {"first": [(1, first)], "nearest": [(1, nearest)]}


def test_a_match_has_the_values_of_its_pair_and_the_unmatched_have_none(
    spark: SparkSession,
) -> None:
    # OUT and its twin choose the same return, each for itself.
    trips = [OUT, replace(OUT, trip_id=7), back(2, 1, 120), back(3, 2, 20)]
    rows = trips_frame(spark, trips)
    pairs = find_return_trips(rows)
    found = {r["trip_id"]: r for r in with_unmatched(one_each(pairs, "nearest"), rows).collect()}
    assert sorted(found) == [1, 2, 3, 7]
    stored = {(r["trip_id"], r["return_trip_id"]): r for r in pairs.collect()}
    assert found[1] == stored[1, 3]
    assert found[7] == stored[7, 3]
    for trip in (2, 3):
        assert found[trip]["dropoff_at"] is not None
        assert [
            v for k, v in found[trip].asDict().items() if v is not None and k != "dropoff_at"
        ] == [trip]

"""The join of two streams, run on tables: its pairs, and what it leaves out on purpose."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.trips.return_trips import find_return_trips
from pipelines.trips.return_trips.live import live_return_trips
from tests.made_trips import MIDNIGHT, Trip, apart, trips_frame, us, worlds

HOUR = 3600 * 10**6
NOON = us(MIDNIGHT) + 12 * HOUR
HOME, WORK = (40.75, -73.99), (40.70, -74.01)
WINDOW_US = 8 * HOUR


def test_a_return_of_the_longest_duration_is_none(spark: SparkSession) -> None:
    # SHORT takes a microsecond less than an hour and LONG exactly an hour, both from a minute
    # after OUT ended. LONG is still an outbound trip: AGAIN goes back the way it came.
    start = NOON + HOUR // 60
    out = Trip(1, NOON - HOUR, NOON, *HOME, *WORK)
    short = Trip(2, start, start + HOUR - 1, *WORK, *HOME)
    long = Trip(3, start, start + HOUR, *WORK, *HOME)
    again = Trip(4, start + HOUR + 1, start + HOUR + 2, *HOME, *WORK)
    trips = trips_frame(spark, [out, short, long, again])
    found = live_return_trips(trips, max_duration=timedelta(hours=1)).collect()
    # AGAIN begins 2 and 1 microseconds after SHORT and LONG ended.
    assert {tuple(r)[:2]: r["wait_s"] for r in found} == {(1, 2): 60, (2, 4): 2e-6, (3, 4): 1e-6}


@pytest.mark.slow
@pytest.mark.parametrize("radius_m", [200, 3_000_000])
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_pair_of_the_batch_answer_once(
    spark: SparkSession, radius_m: int, data: st.DataObject
) -> None:
    many = data.draw(st.lists(worlds(radius_m, WINDOW_US), min_size=40, max_size=60))
    trips = trips_frame(spark, apart(many, WINDOW_US)).localCheckpoint()
    live = live_return_trips(trips, radii_m=[radius_m])
    batch = find_return_trips(trips, radii_m=[radius_m], method="naive")
    assert sorted(map(tuple, live.collect())) == sorted(map(tuple, batch.collect()))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"window": timedelta(0)}, "the window must be longer than 0"),
        ({"max_duration": timedelta(0)}, "the longest duration must be longer than 0"),
        ({"lateness": timedelta(seconds=-1)}, "the lateness must not be below 0"),
    ],
)
def test_impossible_lengths_of_time(
    spark: SparkSession, lengths: dict[str, Any], message: str
) -> None:
    trips = trips_frame(spark, [Trip(1, NOON, NOON, *HOME, *WORK)])
    with pytest.raises(UsageError, match=message):
        live_return_trips(trips, **lengths)

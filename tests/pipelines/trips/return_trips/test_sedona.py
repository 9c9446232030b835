"""Sedona's join stays a distance join, and a pair's place on the plane does not depend on time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyspark.sql import SparkSession

from pipelines.trips.return_trips import geometry_of, sedona
from tests.made_trips import MIDNIGHT, Trip, trips_frame, us

HOUR = 3600 * 10**6
NOON = us(MIDNIGHT) + 12 * HOUR
OUT = Trip(1, NOON, NOON + HOUR, 40.75, -73.99, 40.70, -74.01)
BACK = Trip(2, NOON + 2 * HOUR, NOON + 3 * HOUR, 40.70, -74.01, 40.75, -73.99)


def test_spark_plans_a_distance_join(spark: SparkSession) -> None:
    trips = geometry_of(trips_frame(spark, [OUT, BACK]))
    found = sedona.pairs(trips, trips, radius_m=200.0, window_us=8 * HOUR)
    plan = found._jdf.queryExecution().sparkPlan().toString()
    assert "DistanceJoin" in plan
    for other in ("CartesianProduct", "NestedLoop", "HashJoin", "SortMergeJoin"):
        assert other not in plan


@pytest.mark.parametrize("years", [-60, 0, 80])
def test_times_far_from_ours_do_not_blur_the_plane(spark: SparkSession, years: int) -> None:
    shift = years * 8766 * HOUR
    trips = geometry_of(
        trips_frame(
            spark,
            [
                replace(t, pickup_us=t.pickup_us + shift, dropoff_us=t.dropoff_us + shift)
                for t in (OUT, BACK)
            ],
        )
    )
    (row,) = sedona.pairs(trips, trips, radius_m=1.0, window_us=8 * HOUR).collect()
    assert (row["trip_id"], row["return_trip_id"]) == (1, 2)

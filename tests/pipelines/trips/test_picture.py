"""What the picture counts: windows of the right shape, and every point in one pixel."""

from __future__ import annotations

import math

import pytest
from pyspark.sql import SparkSession

from pipelines.trips.picture import View, by_hour, pixels, starts_of_returns, view_of, waits
from schemas.frames import frame_of

POINT = "lat DOUBLE, lon DOUBLE"
DEGREE = View(min_lat=40, min_lon=-74, max_lat=41, max_lon=-73, width_px=10, height_px=10)


def test_a_view_is_as_wide_on_the_ground_as_it_is_high(spark: SparkSession) -> None:
    points = frame_of(spark, [(40.0, -74.0), (41.0, -74.0), (40.5, -73.9)], POINT)
    (view,) = view_of(points, [1.0], [(300, 100)])
    high_m = (view.max_lat - view.min_lat) * 111_195
    wide_m = (view.max_lon - view.min_lon) * 111_195 * math.cos(math.radians(40.5))
    assert wide_m / high_m == pytest.approx(3)
    assert view.m_per_px == pytest.approx(high_m / 100)
    # The points lie inside, with a margin, and in the middle.
    assert view.min_lat < 40 < 41 < view.max_lat
    assert (view.min_lat + view.max_lat) / 2 == pytest.approx(40.5)


def test_a_view_leaves_out_what_lies_farthest_out(spark: SparkSession) -> None:
    points = frame_of(spark, [(40 + i / 1000, -74.0) for i in range(100)] + [(80.0, 100.0)], POINT)
    everything, most = view_of(points, [1.0, 0.9], [(10, 10), (10, 10)])
    assert everything.max_lat > 80
    assert most.max_lat < 41


def test_a_single_point_and_none(spark: SparkSession) -> None:
    (view,) = view_of(frame_of(spark, [(40.0, -74.0)], POINT), [1.0], [(10, 10)])
    assert view.m_per_px == pytest.approx(200)
    assert view_of(frame_of(spark, [], POINT), [1.0], [(10, 10)]) == []


def test_pixels_count_from_the_north_west(spark: SparkSession) -> None:
    points = [
        (41.0, -74.0),  # the corner itself belongs to the first pixel
        (40.95, -73.95),
        (40.9, -73.95),  # a border belongs to the pixel south of it
        (40.05, -73.05),
        (40.0, -73.5),  # the southern and the eastern edge lie outside
        (40.5, -73.0),
        (39.9, -73.5),
    ]
    found = {
        (r["x"], r["y"]): r["count"]
        for r in pixels(frame_of(spark, points, POINT), DEGREE).collect()
    }
    assert found == {(0, 0): 2, (0, 1): 1, (9, 9): 1}


def test_starts_of_returns_are_counted_once(spark: SparkSession) -> None:
    trips = frame_of(
        spark,
        [(1, 40.1, -74.0), (2, 40.2, -74.0), (3, 40.3, -74.0)],
        "trip_id BIGINT, pickup_lat DOUBLE, pickup_lon DOUBLE",
    )
    pairs = frame_of(spark, [(1, 2), (3, 2), (2, 1)], "trip_id BIGINT, return_trip_id BIGINT")
    assert sorted(map(tuple, starts_of_returns(trips, pairs).collect())) == [
        (40.1, -74.0),
        (40.2, -74.0),
    ]


def test_waits_and_hours(spark: SparkSession) -> None:
    pairs = frame_of(
        spark, [(50, 0.5), (50, 599.9), (50, 600.0), (100, 0.5)], "radius_m INT, wait_s DOUBLE"
    )
    assert sorted(map(tuple, waits(pairs, 600).collect())) == [(50, 0, 2), (50, 1, 1), (100, 0, 1)]
    stats = frame_of(
        spark,
        [(50, 12, 10, 3, 2), (50, 12, 20, 4, 1), (100, 12, 10, 9, 5)],
        "radius_m INT, hour INT, trips BIGINT, pairs BIGINT, trips_with_return BIGINT",
    )
    assert sorted(map(tuple, by_hour(stats).collect())) == [(50, 12, 30, 7, 3), (100, 12, 10, 9, 5)]

"""Figures by which bad data shows, on tables small enough to check by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from pipelines.quality import Batch
from pipelines.trips.quality import (
    deliveries_by_file,
    pairs_without_trips,
    stats_against_pairs,
    trips_by_day,
)
from schemas.frames import frame_of

NOON = datetime(2015, 12, 1, 12, tzinfo=UTC)


def trips(spark: SparkSession, *days: tuple[int, int], mph: float = 10.0) -> DataFrame:
    """Pairs of (day of December, trips): those trips, an hour long each, one an hour from noon."""
    rows = [
        (date(2015, 12, day), NOON.replace(day=day) + timedelta(hours=n % 6), mph)
        for day, count in days
        for n in range(count)
    ]
    struct = "day DATE, pickup_at TIMESTAMP, distance_mi DOUBLE"
    return frame_of(spark, rows, struct).selectExpr(
        "*", "pickup_at + INTERVAL 1 HOUR AS dropoff_at"
    )


def by_day(batch: Batch, column: str) -> dict[int, object]:
    return {r["day"].day: r[column] for r in batch.rows.select("day", column).collect()}


def test_volume_is_measured_against_the_median_of_the_days_before(spark: SparkSession) -> None:
    batch = trips_by_day(trips(spark, (1, 10), (2, 30), (3, 20), (4, 10), (12, 7)))
    some = {day: n for day, n in by_day(batch, "trips").items() if n}
    assert some == {1: 10, 2: 30, 3: 20, 4: 10, 12: 7}
    # The fourth has three days before it, with 20 in the middle; the 12th has none in a week.
    of_usual = by_day(batch, "of_usual")
    assert {day: of_usual[day] for day in some} == {1: None, 2: None, 3: None, 4: 0.5, 12: None}


def test_days_before_the_first_count_only_for_comparison(spark: SparkSession) -> None:
    some = trips(spark, (1, 4), (2, 4), (3, 4), (4, 8), (5, 1))
    batch = trips_by_day(some, first=date(2015, 12, 4), last=date(2015, 12, 4))
    assert by_day(batch, "of_usual") == {4: 2.0}


def level_of_absence(batch: Batch) -> str:
    (found,) = [e for e in batch.expectations if e.kwargs.get("column") == "without_trips"]
    return found.level


def test_a_day_without_trips_between_others_is_there(spark: SparkSession) -> None:
    batch = trips_by_day(trips(spark, (1, 4), (2, 4), (3, 4), (5, 4)))
    assert by_day(batch, "trips") == {1: 4, 2: 4, 3: 4, 4: 0, 5: 4}
    assert by_day(batch, "of_usual") == {1: None, 2: None, 3: None, 4: None, 5: 1.0}
    without = by_day(batch, "without_trips")
    assert {day: said for day, said in without.items() if said} == {4: "2015-12-04"}
    assert level_of_absence(batch) == "warn"
    assert sorted(by_day(trips_by_day(trips(spark, (1, 1), (28, 1))), "day")) == [*range(1, 9), 28]


def test_every_day_that_was_asked_for_must_have_trips(spark: SparkSession) -> None:
    first, last = date(2015, 12, 2), date(2015, 12, 5)
    batch = trips_by_day(trips(spark, (1, 4), (4, 4)), first=first, last=last, asked=True)
    assert by_day(batch, "trips") == {2: 0, 3: 0, 4: 4, 5: 0}
    assert level_of_absence(batch) == "error"
    # As of a night of --incremental, whose hours reach into the days before and after.
    batch = trips_by_day(trips(spark, (4, 4)), first=first, last=last)
    assert by_day(batch, "trips") == {4: 4}


def test_a_day_that_was_delivered_twice_is_worth_a_warning(spark: SparkSession) -> None:
    limits = trips_by_day(trips(spark, (1, 1))).expectations
    (warned,) = [e for e in limits if e.kwargs.get("column") == "of_usual" and e.level == "warn"]
    assert warned.kwargs["max_value"] < 2


@pytest.mark.parametrize(("mph", "share"), [(10.0, 0.0), (250.0, 1.0)])
def test_speeds_and_hours(spark: SparkSession, mph: float, share: float) -> None:
    batch = trips_by_day(trips(spark, (1, 9), mph=mph))
    assert by_day(batch, "hours") == {1: 6}
    assert by_day(batch, "median_mph") == {1: mph}
    assert by_day(batch, "share_too_fast") == {1: share}


def test_trips_without_distance_or_duration_have_no_speed(spark: SparkSession) -> None:
    batch = trips_by_day(trips(spark, (1, 3), mph=0.0))
    assert by_day(batch, "median_mph") == {1: None}
    assert by_day(batch, "share_too_fast") == {1: None}


def test_share_rejected_by_file(spark: SparkSession) -> None:
    struct = "file_id STRING, rows_read BIGINT, rows_rejected BIGINT"
    files = frame_of(spark, [("a", 10, 1), ("empty", 0, 0)], struct)
    rows = {r["file_id"]: r["share_rejected"] for r in deliveries_by_file(files).rows.collect()}
    assert rows == {"a": 0.1, "empty": None}


def test_pairs_whose_trips_are_gone(spark: SparkSession) -> None:
    pairs = frame_of(
        spark, [(1, 2), (1, 9), (8, 2), (1, None)], "trip_id BIGINT, return_trip_id BIGINT"
    )
    known = frame_of(spark, [(1,), (2,)], "trip_id BIGINT")
    (row,) = pairs_without_trips(pairs, known).rows.collect()
    assert (row["outbound_missing"], row["return_missing"]) == (1, 1)


def test_statistics_are_held_against_the_pairs(spark: SparkSession) -> None:
    hour = NOON.replace(minute=0)
    stats = frame_of(
        spark,
        [(hour, 50, 1), (hour, 200, 2), (hour + timedelta(hours=1), 200, 0)],
        "hour_at TIMESTAMP, radius_m INT, pairs BIGINT",
    )
    held = [hour, hour + timedelta(minutes=59), hour + timedelta(hours=2)]
    pairs = frame_of(spark, [(x,) for x in held], "dropoff_at TIMESTAMP")
    rows = stats_against_pairs(stats, pairs).rows.orderBy("hour_at").collect()
    assert [(r["counted"], r["held"], r["missing"]) for r in rows] == [
        (2, 2, 0),
        (0, 0, 0),
        (0, 1, -1),
    ]

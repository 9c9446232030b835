"""Figures of the trips' tables by which bad data shows, and what is expected of them.

Each is a small table, one row a day or a file, computed in one pass.
"""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.quality import Batch
from schemas import Expectation, between

TRAILING_DAYS = 7
# A median of fewer days says little about what is usual.
_FEWEST_DAYS = 3
_MILES_AN_HOUR_AT_MOST = 100
_A_DAY = timedelta(days=1)


def trips_by_day(
    trips: DataFrame, *, first: date | None = None, last: date | None = None, asked: bool = False
) -> Batch:
    """How many trips each day has against the days before it, in how many hours, how fast.

    `trips` is silver.trips, from TRAILING_DAYS before `first` on; days are those of its column
    `day`, from `first` to `last`, both included. A day without trips between two that have some
    is worth a warning: a lake may hold two months of different years. Where somebody `asked` for
    the days from `first` to `last`, each of them must have trips. Columns: day, trips, of_usual
    (trips divided by the median of the TRAILING_DAYS before, NULL where fewer than 3 of those have
    trips), hours (with a pickup), median_mph, share_too_fast (of trips with a distance and a
    duration), without_trips (the day where it has none: then all but trips are NULL).
    """
    hours = (F.unix_micros("dropoff_at") - F.unix_micros("pickup_at")) / 3_600_000_000
    mph = F.when((hours > 0) & (F.col("distance_mi") > 0), F.col("distance_mi") / hours)
    hour = F.hour("pickup_at")
    if first:  # the days before it are only counted
        shown = F.col("day") >= F.lit(first)
        hour, mph = F.when(shown, hour), F.when(shown, mph)
    days = (
        trips.select("day", hour.alias("hour"), mph.alias("mph"))
        .groupBy("day")
        .agg(
            F.count(F.lit(1)).alias("trips"),
            F.count_distinct("hour").alias("hours"),
            F.percentile_approx("mph", 0.5, 1000).alias("median_mph"),
            F.avg((F.col("mph") > _MILES_AN_HOUR_AT_MOST).cast("int")).alias("share_too_fast"),
        )
    )
    number = F.unix_date("day")
    before = Window.orderBy(number).rangeBetween(-TRAILING_DAYS, -1)
    median = F.percentile_approx("trips", 0.5).over(
        before
    )  # exact for so few; of an even number, the lower
    usual = F.when(F.count("trips").over(before) >= _FEWEST_DAYS, median)
    rows = days.withColumn("of_usual", F.col("trips") / usual)
    if first:
        rows = rows.where(F.col("day") >= F.lit(first))
    if last:
        rows = rows.where(F.col("day") <= F.lit(last))
    rows = _with_days_without(rows, *((first, last) if asked else (None, None)))
    without = F.when(F.col("trips") == 0, F.col("day").cast("string"))
    return Batch(
        "silver.trips by day",
        rows.withColumn("without_trips", without),
        (
            Expectation("expect_table_row_count_to_be_between", {"min_value": 1}),
            Expectation(
                "expect_column_values_to_be_null",
                {"column": "without_trips"},
                level="error" if asked else "warn",
                description="every day has trips",
            ),
            between("of_usual", 0.1, 10),
            # A day that was delivered twice has twice the usual, or less if it was a quiet one.
            between("of_usual", 0.5, 1.6, level="warn"),
            between("hours", 20, None, level="warn"),
            between("median_mph", 3, 40, level="warn"),
            between("share_too_fast", 0, 0.2),
            between("share_too_fast", 0, 0.01, level="warn"),
        ),
        few=True,
    )


def _with_days_without(rows: DataFrame, first: date | None, last: date | None) -> DataFrame:
    """`rows`, one a day, and rows with 0 trips and no other value for the days between them.

    For those from `first` and to `last` too, where given. Of many in a row the first TRAILING_DAYS
    alone: a trip of the year 1901 makes no million.
    """
    in_order, no_day = Window.orderBy("day"), F.array().cast("array<date>")

    def each(start: Column, end: Column) -> Column:
        most = F.least(end, F.date_add(start, TRAILING_DAYS - 1))
        return F.when(start <= end, F.sequence(start, most)).otherwise(no_day)

    following = F.lead("day").over(in_order)
    if last:
        following = F.coalesce(following, F.lit(last + _A_DAY))
    days = [F.array("day"), each(F.date_add("day", 1), F.date_sub(following, 1))]
    if first:
        is_first = F.lag("day").over(in_order).isNull()
        before = each(F.lit(first), F.date_sub("day", 1))
        days.append(F.when(is_first, before).otherwise(no_day))
    every = rows.withColumn("days", F.concat(*days)).withColumn("of", F.explode("days"))
    is_own = F.col("of") == F.col("day")
    others = (F.when(is_own, F.col(c)).alias(c) for c in rows.columns if c not in ("day", "trips"))
    trips = F.when(is_own, F.col("trips")).otherwise(0).alias("trips")
    return every.select(F.col("of").alias("day"), trips, *others)


def deliveries_by_file(deliveries: DataFrame) -> Batch:
    """Which share of each file's rows was rejected. `deliveries` is bronze.deliveries."""
    share = F.col("rows_rejected") / F.nullif("rows_read", F.lit(0))
    rows = deliveries.select("file_id", "rows_read", share.alias("share_rejected"))
    return Batch(
        "bronze.deliveries by file",
        rows,
        (
            between("rows_read", 1, None, level="warn"),
            between("share_rejected", 0, 0.5),
            between("share_rejected", 0, 0.05, level="warn"),
        ),
        few=True,
    )


def pairs_without_trips(pairs: DataFrame, trips: DataFrame) -> Batch:
    """How many pairs name a trip that silver.trips does not have: one row.

    `pairs` is gold.return_trips or a table like it; `trips` holds every trip they may name. An
    outbound trip without a return names none.
    """
    known = trips.select("trip_id")

    def lost(column: str) -> DataFrame:
        named = pairs.select(F.col(column).alias("trip_id")).where(F.col("trip_id").isNotNull())
        return named.join(known, "trip_id", "left_anti").select(F.lit(column).alias("side"))

    found = lost("trip_id").unionAll(lost("return_trip_id"))
    rows = found.agg(
        F.count_if(F.col("side") == "trip_id").alias("outbound_missing"),
        F.count_if(F.col("side") == "return_trip_id").alias("return_missing"),
    )
    return Batch(
        "trips of the pairs",
        rows,
        (between("outbound_missing", 0, 0), between("return_missing", 0, 0)),
        few=True,
    )


def stats_against_pairs(stats: DataFrame, pairs: DataFrame) -> Batch:
    """The pairs that gold.return_trip_stats counts and those in gold.return_trips, by hour.

    Columns: hour_at, counted (at the largest radius), held, missing (their difference).
    """
    largest = stats.groupBy("hour_at").agg(F.max("pairs").alias("counted"))
    held = pairs.groupBy(F.date_trunc("hour", "dropoff_at").alias("hour_at")).agg(
        F.count(F.lit(1)).alias("held")
    )
    both = largest.join(held, "hour_at", "full").na.fill(0, ["counted", "held"])
    rows = both.withColumn("missing", F.col("counted") - F.col("held"))
    return Batch("statistics and pairs by hour", rows, (between("missing", 0, 0),), few=True)

"""Counts, shares and waits of return trips by hour and radius."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.trips.return_trips.radii import reached_radii
from schemas import RETURN_TRIP_STATS


def hourly_stats(
    trips: DataFrame, pairs: DataFrame, *, radii_m: Sequence[int], timezone: str
) -> DataFrame:
    """Rows of gold.return_trip_stats from silver.trips and gold.return_trips.

    Both must hold whole hours of `dropoff_at`. One row per hour in which a trip ended and radius;
    a radius counts every pair closer than it. The median is exact: half of the pairs waited no
    longer, as the mean of the two in the middle where their number is even.
    """
    radii = [int(r) for r in sorted(set(radii_m))]
    ended = trips.groupBy(_hour().alias("hour_at")).agg(F.count(F.lit(1)).alias("trips"))
    by_radius = ended.select("*", F.explode(F.array(*map(F.lit, radii))).alias("radius_m"))
    returned = _with_return(pairs, radii)
    waits = _waits(pairs, radii)
    local = F.from_utc_timestamp("hour_at", timezone)
    rows = (
        by_radius.join(returned, ["hour_at", "radius_m"], "left")
        .join(waits, ["hour_at", "radius_m"], "left")
        .fillna(0, ["pairs", "trips_with_return"])
        .withColumn("day", F.to_date(local))
        .withColumn("hour", F.hour(local))
        .withColumn("share_with_return", F.col("trips_with_return") / F.col("trips"))
    )
    return RETURN_TRIP_STATS.conform(rows)


def _hour() -> Column:
    return F.date_trunc("hour", "dropoff_at")


def _with_return(pairs: DataFrame, radii_m: Sequence[int]) -> DataFrame:
    """Trips that have a return closer than each radius, by hour."""
    per_trip = pairs.groupBy("trip_id", _hour().alias("hour_at")).agg(
        F.min("radius_m").alias("nearest_m")
    )
    counted = per_trip.groupBy("hour_at", "nearest_m").agg(F.count(F.lit(1)).alias("n"))
    return (
        counted.withColumn("radius_m", F.explode(reached_radii("nearest_m", radii_m)))
        .groupBy("hour_at", "radius_m")
        .agg(F.sum("n").alias("trips_with_return"))
    )


def _waits(pairs: DataFrame, radii_m: Sequence[int]) -> DataFrame:
    """Number of pairs and median wait by hour and radius.

    Pairs with the same wait are counted first: recorded times are whole seconds, so that leaves a
    hundredth of them for the median to sort.
    """
    same_wait = pairs.groupBy(_hour().alias("hour_at"), "radius_m", "wait_s").agg(
        F.count(F.lit(1)).alias("n")
    )
    return (
        same_wait.withColumn("radius_m", F.explode(reached_radii("radius_m", radii_m)))
        .groupBy("hour_at", "radius_m")
        .agg(
            F.sum("n").alias("pairs"),
            F.percentile("wait_s", F.lit(0.5), F.col("n")).alias("median_wait_s"),
        )
    )

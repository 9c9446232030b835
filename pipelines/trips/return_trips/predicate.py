"""The contract of a return trip as Spark columns: the one place where a pair is decided."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from udfs.geometry import haversine_m, lat_degrees, widened_m

PAIR_COLUMNS = (
    "trip_id",
    "return_trip_id",
    "dropoff_us",
    "wait_us",
    "dropoff_gap_m",
    "pickup_gap_m",
)


def side(trips: DataFrame, prefix: str) -> DataFrame:
    """The trips with each column renamed to `prefix_column`, so that two sides can be joined."""
    return trips.select(*(F.col(c).alias(f"{prefix}_{c}") for c in trips.columns))


def is_pair(radius_m: float, window_us: int) -> Column:
    """Whether b (columns b_*) is a return trip of a (columns a_*) at `radius_m`.

    A join tests it on every candidate, so what is cheap and rules out much stands first; the two
    haversines, which decide, stand last.
    """
    reach = F.lit(lat_degrees(widened_m(radius_m)))
    wait_us = F.col("b_pickup_us") - F.col("a_dropoff_us")
    return (
        (wait_us > 0)
        & (wait_us < window_us)
        & (F.abs(F.col("b_pickup_lat") - F.col("a_dropoff_lat")) < reach)
        & (F.abs(F.col("b_dropoff_lat") - F.col("a_pickup_lat")) < reach)
        & (F.col("a_trip_id") != F.col("b_trip_id"))
        & (_dropoff_gap_m() < radius_m)
        & (_pickup_gap_m() < radius_m)
    )


def pairs_of(joined: DataFrame) -> DataFrame:
    """`PAIR_COLUMNS` of rows that hold the columns of both sides of a pair."""
    return joined.select(
        F.col("a_trip_id").alias("trip_id"),
        F.col("b_trip_id").alias("return_trip_id"),
        F.col("a_dropoff_us").alias("dropoff_us"),
        (F.col("b_pickup_us") - F.col("a_dropoff_us")).alias("wait_us"),
        _dropoff_gap_m().alias("dropoff_gap_m"),
        _pickup_gap_m().alias("pickup_gap_m"),
    )


def _dropoff_gap_m() -> Column:
    return haversine_m(
        F.col("a_dropoff_lat"),
        F.col("a_dropoff_lon"),
        F.col("b_pickup_lat"),
        F.col("b_pickup_lon"),
    )


def _pickup_gap_m() -> Column:
    return haversine_m(
        F.col("a_pickup_lat"),
        F.col("a_pickup_lon"),
        F.col("b_dropoff_lat"),
        F.col("b_dropoff_lon"),
    )

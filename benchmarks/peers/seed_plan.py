"""The seed of the idea, on Spark: the near end and the time in the key, the far end not.

An outbound trip goes into the 9 cells round its drop-off and into 2 cells of time, 18 rows in all;
a return lies in the one cell of its pickup.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.plain_grid import WINDOW_US, degrees
from pipelines.trips.return_trips.predicate import is_pair, pairs_of, side


def seed_plan(spark: SparkSession, path: Path, radius_m: float) -> DataFrame:
    """The pairs of a file of trips, not computed yet."""
    trips = spark.read.parquet(str(path))
    side_lat, side_lon = degrees(radius_m)

    def cell(value: str, size: float) -> Column:
        return F.floor(F.col(value) / size)

    near = F.array(*map(F.lit, (-1, 0, 1)))
    a = side(trips, "a")
    a = a.withColumn(
        "lat", F.explode(F.transform(near, lambda i: cell("a_dropoff_lat", side_lat) + i))
    )
    a = a.withColumn(
        "lon", F.explode(F.transform(near, lambda i: cell("a_dropoff_lon", side_lon) + i))
    )
    at = F.floor(F.col("a_dropoff_us") / WINDOW_US)
    a = a.withColumn("time", F.explode(F.array(at, at + 1)))
    b = side(trips, "b")
    b = (
        b.withColumn("b_lat", cell("b_pickup_lat", side_lat))
        .withColumn("b_lon", cell("b_pickup_lon", side_lon))
        .withColumn("b_time", F.floor(F.col("b_pickup_us") / WINDOW_US))
    )
    key = (
        (F.col("lat") == F.col("b_lat"))
        & (F.col("lon") == F.col("b_lon"))
        & (F.col("time") == F.col("b_time"))
    )
    return pairs_of(a.join(b, key & is_pair(radius_m, WINDOW_US)))

"""Real trips, where the folder of real data holds them."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

TRIPS_OF_REAL_DAY = 411_683
PAIRS_OF_REAL_DAY = {50: 47_731, 100: 212_676, 150: 679_742, 200: 1_857_720}
"""By radius in metres, within 8 hours: counts of an independent program in C that was itself
checked against brute force."""


def trips_of_real_day(spark: SparkSession, shared_data: Path) -> DataFrame:
    """The trips of 1 December 2015, in the columns of `tests.made_trips.trips_frame`.

    Times are the files' wall clock, taken for UTC.
    """
    day = spark.read.csv(
        str(shared_data / "trips" / "nyc_yellow_green_2015-12-01.csv.gz"), header=True
    )
    points = ("pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude")
    lat_1, lon_1, lat_2, lon_2 = (F.col(p).cast("double") for p in points)
    pickup, dropoff = (F.col(c).cast("timestamp") for c in ("pickup_datetime", "dropoff_datetime"))
    return day.select(
        F.monotonically_increasing_id().alias("trip_id"),
        pickup.alias("pickup_at"),
        dropoff.alias("dropoff_at"),
        lat_1.alias("pickup_lat"),
        lon_1.alias("pickup_lon"),
        lat_2.alias("dropoff_lat"),
        lon_2.alias("dropoff_lon"),
    ).where(
        "pickup_lat BETWEEN 40 AND 42 AND dropoff_lat BETWEEN 40 AND 42 "
        "AND pickup_lon BETWEEN -75 AND -72 AND dropoff_lon BETWEEN -75 AND -72 "
        "AND dropoff_at >= pickup_at AND dropoff_at < pickup_at + INTERVAL 24 HOURS"
    )

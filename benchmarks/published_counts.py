"""Counts of the course's published reference answers: `published_counts.py FILE`.

The task from which this project grew publishes answers for two files of the TLC, in which it keeps
the rows whose four coordinates are all non-zero, and nothing else. Neither file may be passed on
here, so this has never been run on them; it is for whoever has them.

    yellow_tripdata_2016-02.csv        20 m: 195 386   90 m: 3 915 934   150 m: 16 908 022
    yellow_tripdata_2016-01.short.csv  100 m: 3 107
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.session import open_session
from pipelines.trips.layouts import builtin_layouts
from pipelines.trips.return_trips import find_return_trips
from pipelines.trips.rows import read_rows
from pipelines.trips.sources import find_files, inspect

PUBLISHED = {
    "yellow_tripdata_2016-02.csv": {20: 195_386, 90: 3_915_934, 150: 16_908_022},
    "yellow_tripdata_2016-01.short.csv": {100: 3_107},
}


def main(path: str) -> int:
    """Print each published count beside ours; 0 where all are equal."""
    name = Path(path).name.removesuffix(".gz")
    if name not in PUBLISHED:
        print(f"{name}: nothing is published for it, only for {', '.join(PUBLISHED)}")
        return 2
    spark = open_session("roundtrip published counts")
    spark.sparkContext.setLogLevel("ERROR")
    (found,) = find_files(spark, [path])
    file = inspect(spark, found, builtin_layouts())
    source = dict(file.recognised.source)

    def field(column: str, kind: str) -> Column:
        return F.element_at("fields", F.lit(source[column])).try_cast(kind).alias(column)

    points = ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")
    trips = read_rows(spark, file, spark.sparkContext.defaultParallelism).select(
        F.col("source_row").alias("trip_id"),
        *(field(c, "timestamp") for c in ("pickup_at", "dropoff_at")),
        *(field(c, "double") for c in points),
    )
    trips = trips.where(" AND ".join(f"{c} <> 0" for c in points)).persist()
    radii = sorted(PUBLISHED[name])
    pairs = find_return_trips(trips, radii_m=radii)
    exact = {r["radius_m"]: r["count"] for r in pairs.groupBy("radius_m").count().collect()}
    equal = True
    for radius in radii:
        ours = sum(n for r, n in exact.items() if r <= radius)
        equal &= ours == PUBLISHED[name][radius]
        print(f"{radius} m: published {PUBLISHED[name][radius]:,}, ours {ours:,}")
    return 0 if equal else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FILE")
    sys.exit(main(sys.argv[1]))

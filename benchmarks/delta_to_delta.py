"""From a clustered Delta table of trips to a Delta table of pairs, by the native method.

What a job does beyond counting is to write, so it is measured beside its parts: counting the same
pairs from the same table, and writing the same pairs from memory. The bar is 1.15 times their sum.
In each round all three; the pairs are put into memory without being timed, and every table that is
written is a new one. Clustering (OPTIMIZE) is timed apart, once before and once after.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from delta.tables import DeltaTable
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.lake import Lake
from pipelines.trips.return_trips import find_return_trips
from schemas import RETURN_TRIPS, TRIPS, Table

BAR = 1.15


def trips_lake(spark: SparkSession, path: Path, root: Path) -> tuple[Lake, float]:
    """A lake with the trips of a file in silver.trips, clustered; and the seconds of OPTIMIZE."""
    shutil.rmtree(root, ignore_errors=True)
    lake = Lake(spark, str(root))
    lake.check_root()
    lake.replace(TRIPS, _silver(spark.read.parquet(str(path))), "true")
    return lake, timed(lambda: optimize(lake, TRIPS))


def delta_to_delta(
    lake: Lake, *, radii_m: tuple[int, ...], rounds: int, bar: float = BAR
) -> dict[str, Any]:
    """Medians of counting, writing from memory and both in one, over `rounds` after a warm-up.

    Leaves the pairs of the last round in the lake's gold.return_trips.
    """
    seconds: dict[str, list[float]] = {"count": [], "write": [], "delta to delta": []}
    pairs: list[int] = []
    held: dict[str, int] = {}

    def found() -> DataFrame:
        return find_return_trips(lake.read(TRIPS), radii_m=radii_m, method="native")

    for round_ in range(rounds + 1):
        last = round_ == rounds
        target = lake if last else _beside(lake)
        target.create(RETURN_TRIPS)
        took = {
            "count": timed(lambda: pairs.append(found().count())),
            "delta to delta": timed(partial(_write, target, found)),
        }
        if not last:
            shutil.rmtree(target.root)
        took["write"], held = _write_from_memory(lake, found())
        for name, s in took.items():
            if round_:
                seconds[name].append(round(s, 3))
            print(f"delta to delta, round {round_}: {name} {s:.2f} s", file=sys.stderr)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    times = median["delta to delta"] / (median["count"] + median["write"])
    return {
        "trips": lake.read(TRIPS).count(),
        "pairs": pairs[-1],
        "radii_m": list(radii_m),
        "seconds": seconds,
        "median_s": {name: round(s, 2) for name, s in median.items()},
        "times_count_plus_write": round(times, 3),
        "bar": bar,
        "within_bar": times <= bar,
        "pairs_in_memory": held,
    }


def optimize(lake: Lake, table: Table) -> None:
    """Cluster a table as declared."""
    DeltaTable.forPath(lake.spark, lake.path(table)).optimize().executeCompaction()


def timed(do: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def markdown(result: dict[str, Any], data: str) -> str:
    """The figures as lines of text."""
    m, s = result["median_s"], result["optimize_s"]
    verdict = "within" if result["within_bar"] else "above"
    return (
        f"Delta to Delta, native, {data}: {result['trips']:,} trips, {result['pairs']:,} pairs\n\n"
        "| step | median s |\n| --- | ---: |\n"
        f"| count the pairs of the table of trips | {m['count']:.2f} |\n"
        f"| write the same pairs from memory | {m['write']:.2f} |\n"
        f"| from table to table | {m['delta to delta']:.2f} |\n\n"
        f"{result['times_count_plus_write']:.2f} times count and write, {verdict} the bar of "
        f"{result['bar']}. Clustering apart: trips {s['trips']:.1f} s, pairs {s['pairs']:.1f} s.\n"
    )


def _write_from_memory(lake: Lake, found: DataFrame) -> tuple[float, dict[str, int]]:
    """Seconds to write pairs that are already worked out, and where they were kept until then."""
    held = found.persist(StorageLevel.MEMORY_AND_DISK)
    held.count()
    info = list(lake.spark.sparkContext._jsc.sc().getRDDStorageInfo())
    where = {
        "memory_bytes": sum(i.memSize() for i in info),
        "disk_bytes": sum(i.diskSize() for i in info),
    }
    target = _beside(lake)
    target.create(RETURN_TRIPS)
    took = timed(partial(_write, target, lambda: held))
    held.unpersist(blocking=True)
    shutil.rmtree(target.root)
    return took, where


def _write(lake: Lake, pairs: Callable[[], DataFrame]) -> None:
    lake.replace(RETURN_TRIPS, pairs(), "true")


def _beside(lake: Lake) -> Lake:
    """An empty lake in a folder of its own, because Delta remembers tables by their path."""
    made = Lake(lake.spark, f"{lake.root}-{time.monotonic_ns()}")
    made.check_root()
    return made


def _silver(trips: DataFrame) -> DataFrame:
    known = trips.select(
        "trip_id",
        F.timestamp_micros("pickup_us").alias("pickup_at"),
        F.timestamp_micros("dropoff_us").alias("dropoff_at"),
        *(f"{end}_{c}" for end in ("pickup", "dropoff") for c in ("lat", "lon")),
    ).withColumns(
        {
            "day": F.to_date(F.from_utc_timestamp("pickup_at", "America/New_York")),
            "file_id": F.lit("0" * 64),
            "source_row": F.col("trip_id"),
        }
    )
    missing = [c for c in TRIPS.columns if c.name not in known.columns]
    return known.withColumns({c.name: F.lit(None).cast(c.type) for c in missing})

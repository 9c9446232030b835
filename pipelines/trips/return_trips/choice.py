"""Which method finds the pairs of an input soonest, with what is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from udfs.native import JAR_NAME, is_available

AUTO = "auto"

# Measured on two cores: up to here the naive join is done before one on keys. The kernel is ahead
# of both at any size; h3 and sedona were the quickest at none, see benchmarks/README.md.
_NAIVE_COMPARISONS = 20_000_000


@dataclass(frozen=True)
class Choice:
    """A method by its name, and why, as the end of a sentence."""

    method: str
    why: str


def choose(spark: SparkSession, count: Callable[[], tuple[int, int]]) -> Choice:
    """The method for so many trips on each side; `count` is called only where that matters."""
    if is_available(spark):
        return Choice("native", f"{JAR_NAME} is there, and is the quickest at any size")
    outbound_trips, inbound_trips = count()
    comparisons = outbound_trips * inbound_trips
    missing = f"{JAR_NAME} is not on Spark's class path (`make scala` compiles it)"
    if comparisons <= _NAIVE_COMPARISONS:
        return Choice("naive", f"{missing}, and {comparisons:,} comparisons are few")
    return Choice("bucketed", f"{missing}, and {comparisons:,} comparisons are too many for naive")


def count_trips(outbound: DataFrame, inbound: DataFrame) -> tuple[int, int]:
    """Trips on each side, in one pass."""
    sides = outbound.select(F.lit(True).alias("is_a")).unionAll(
        inbound.select(F.lit(False).alias("is_a"))
    )
    row = sides.agg(F.count_if("is_a"), F.count_if(~F.col("is_a"))).head()
    assert row is not None  # an aggregate without keys has one row
    return row[0], row[1]

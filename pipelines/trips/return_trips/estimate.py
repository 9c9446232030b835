"""What a join will cost, from a sample, before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from pipelines.trips.return_trips import bucketed
from pipelines.trips.return_trips.choice import AUTO, choose, count_trips
from udfs.geometry import cell_centre

NAIVE_LIMIT = 10_000_000_000
"""Comparisons above which the naive method must be forced: some minutes on two cores."""

_SAMPLED_TRIPS = 30_000
_BUCKETS_SHOWN = 5
# The sample is chosen by a hash of the trip's id, which is itself a hash: the salt makes them
# independent of each other.
_SALT = 0x5EED

# Core-seconds, measured on the day and the machine that benchmarks/README.md names. The estimate
# is of the right order elsewhere, not more.
_S_PER_ROW = 1.2e-6
_S_PER_CANDIDATE = 9.0e-8
_S_PER_COMPARISON = 2.0e-8
_S_PER_TRIP_NATIVE = 5.0e-6


@dataclass(frozen=True)
class Bucket:
    """A key under which many candidates meet; places are the centres of its cells in degrees."""

    dropoff_lat: float
    dropoff_lon: float
    pickup_lat: float
    pickup_lon: float
    outbound: int
    inbound: int
    candidates: int


@dataclass(frozen=True)
class Estimate:
    """Sizes of a join. Exact where `sampled_share` is 1, else scaled up from a sample.

    Rows, candidates and buckets are those of the bucketed join, whatever the method but naive:
    they tell how crowded the trips are. `why` says why the method was chosen, where `auto` chose.
    """

    method: str
    why: str
    outbound_trips: int
    inbound_trips: int
    sampled_share: float
    exploded_rows: int
    candidates: int
    largest_buckets: tuple[Bucket, ...]
    seconds: float


def estimate(
    outbound: DataFrame,
    inbound: DataFrame,
    *,
    method: str,
    radius_m: float,
    window_us: int,
    cores: int,
) -> Estimate:
    """Sizes of the join of two tables of `geometry_of` by `method`, and seconds on `cores` cores.

    Reads the trips once, and joins a sample of some ten thousand of them.
    """
    trips_a, trips_b = count_trips(outbound, inbound)
    why = ""
    if method == AUTO:
        choice = choose(outbound.sparkSession, lambda: (trips_a, trips_b))
        method, why = choice.method, choice.why
    if method == "naive":
        comparisons = trips_a * trips_b
        seconds = comparisons * _S_PER_COMPARISON / cores
        return Estimate(method, why, trips_a, trips_b, 1.0, 0, comparisons, (), seconds)
    one_in = max(1, round(max(trips_a, trips_b) / _SAMPLED_TRIPS))
    a, b = bucketed.keyed_sides(
        _one_in(outbound, one_in), _one_in(inbound, one_in), radius_m=radius_m, window_us=window_us
    )
    both = _per_key(a, "a", F.lit(1), F.lit(0)).unionAll(_per_key(b, "b", F.lit(0), F.lit(1)))
    per_key = both.groupBy(*bucketed.KEY).agg(
        F.sum("a_rows").alias("a_rows"), F.sum("b_rows").alias("b_rows")
    )
    meet = F.col("a_rows") * F.col("b_rows")
    total = Observation()  # the totals come with the largest buckets, in one pass
    largest = (
        per_key.observe(
            total,
            F.sum(F.col("a_rows") + F.col("b_rows")).alias("rows"),
            F.sum(meet).alias("candidates"),
        )
        .where(meet > 0)
        .orderBy(meet.desc(), *bucketed.KEY)
        .limit(_BUCKETS_SHOWN)
    )
    side_m = bucketed.side_m(radius_m)
    buckets = tuple(
        Bucket(
            *cell_centre(row["place_1"], side_m),
            *cell_centre(row["place_2"], side_m),
            row["a_rows"] * one_in,
            row["b_rows"] * one_in,
            row["a_rows"] * row["b_rows"] * one_in**2,
        )
        for row in largest.collect()
    )
    rows = (total.get["rows"] or 0) * one_in
    candidates = (total.get["candidates"] or 0) * one_in**2
    if method == "native":
        seconds = max(trips_a, trips_b) * _S_PER_TRIP_NATIVE / cores
    else:
        seconds = (rows * _S_PER_ROW + candidates * _S_PER_CANDIDATE) / cores
    return Estimate(
        method, why, trips_a, trips_b, 1 / one_in, rows, candidates, buckets, round(seconds, 1)
    )


def _one_in(trips: DataFrame, n: int) -> DataFrame:
    return trips if n == 1 else trips.where(F.pmod(F.xxhash64("trip_id", F.lit(_SALT)), n) == 0)


def _per_key(keyed: DataFrame, prefix: str, a_rows: Column, b_rows: Column) -> DataFrame:
    keys = [F.col(f"{prefix}_{k}").alias(k) for k in bucketed.KEY]
    return keyed.select(*keys, a_rows.alias("a_rows"), b_rows.alias("b_rows"))

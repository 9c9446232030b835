"""Return trips among trips that arrive as they end: a join of two streams with bounded state.

A trip is known when it ends, so trips come roughly in the order of `dropoff_at`. The stream is
joined with itself on the two places of `bucketed`; there is no cell of time in the key, because
state is given up by the watermark. Each side is cut and kept as suits how long it is needed:

    side                place_1                        place_2                      kept for
    outbound trip (a)   the cell of its drop-off       the cell of its pickup       see below
    return trip (b)     every cell near its pickup     every cell near its drop-off lateness

so every pair meets under exactly one key. A return waits only for outbound trips that come late;
an outbound trip waits for every return there can be. From the contract follow two conditions on
the times by which trips arrive, and from them Spark knows what it may forget:

    a.dropoff_at < b.dropoff_at < a.dropoff_at + window + max_duration

The state is bounded by that. An outbound trip is one row for window + max_duration + lateness; a
return trip of a disc that touches n cells at each end is n^2 rows (16 in New York, with cells of
two radii) for lateness. With the defaults: the trips of 33 hours, and 16 times those of one. Spark
moves the watermark between batches, so each stays until the batch after next.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.trips.return_trips import RADII_M, WINDOW, geometry_of, micros, rows_of
from pipelines.trips.return_trips.bucketed import repeated_per_cell, side_m
from pipelines.trips.return_trips.predicate import is_pair, pairs_of, side
from pipelines.trips.return_trips.radii import checked_radii
from schemas import RETURN_TRIPS_LIVE
from udfs.geometry import cell_of

LATENESS = timedelta(hours=1)
MAX_DURATION = timedelta(hours=24)
# Of clocks that are wrong. A drop-off years ahead would let the watermark pass all that is to come.
_AHEAD = timedelta(days=1)

# Observed metrics, for whoever runs the stream.
TRIPS_SEEN = "trips"
"""`rows`; of these `too_long`, of max_duration or longer, so not looked at as returns, and
`in_future`, not looked at; `early_us`, the drop-off that all but a hundredth come after."""
RETURNS_KEYED = "returns"
"""`rows` that the trips made as returns, one for each key."""
PAIRS_FOUND = "pairs"
"""`rows` found."""


def live_return_trips(
    trips: DataFrame,
    *,
    radii_m: Sequence[int] = RADII_M,
    window: timedelta = WINDOW,
    max_duration: timedelta = MAX_DURATION,
    lateness: timedelta = LATENESS,
) -> DataFrame:
    """Rows of gold.return_trips_live, as a stream where `trips` is one.

    `trips` as for `find_return_trips`, with which it agrees on what is neither late nor too long:
    a trip of `max_duration` or longer is no return trip, a trip that comes in a later batch than
    one that ended `lateness` or more after it may be left out, and one that ends more than a day
    after its batch begins is. On a table that is no stream nothing is late. Metrics are observed
    under the names above. Raises UsageError for impossible radii or lengths of time.
    """
    radii = checked_radii(radii_m)
    for name, length in (("window", window), ("longest duration", max_duration)):
        if length <= timedelta(0):
            raise UsageError(f"the {name} must be longer than 0, not {length}")
    if lateness < timedelta(0):
        raise UsageError(f"the lateness must not be below 0, but is {lateness}")
    radius_m = float(radii[-1])
    known = geometry_of(trips).withColumn("dropoff_at", F.timestamp_micros("dropoff_us"))
    fits = F.col("dropoff_us") - F.col("pickup_us") < micros(max_duration)
    over = F.col("dropoff_at") < F.current_timestamp() + F.lit(_AHEAD)
    early = F.percentile_approx(F.when(over, F.col("dropoff_us")), 0.01)
    outbound = known.observe(
        TRIPS_SEEN,
        F.count(F.lit(1)).alias("rows"),
        F.count_if(~fits).alias("too_long"),
        F.count_if(~over).alias("in_future"),
        early.alias("early_us"),
    )
    a = _outbound(outbound.where(over), radius_m)
    b = _returns(known.where(fits & over), radius_m)
    delay = f"{micros(lateness) // 1000} milliseconds"
    a, b = a.withWatermark("a_dropoff_at", delay), b.withWatermark("b_dropoff_at", delay)
    same_places = (F.col("a_place_1") == F.col("b_place_1")) & (
        F.col("a_place_2") == F.col("b_place_2")
    )
    may_meet = (F.col("b_dropoff_at") > F.col("a_dropoff_at")) & (
        F.col("b_dropoff_at") < F.col("a_dropoff_at") + F.lit(window + max_duration)
    )
    joined = a.join(b, same_places & may_meet & is_pair(radius_m, micros(window)), "inner")
    rows = rows_of(pairs_of(joined), radii).observe(PAIRS_FOUND, F.count(F.lit(1)).alias("rows"))
    return RETURN_TRIPS_LIVE.conform(rows)


def _outbound(trips: DataFrame, radius_m: float) -> DataFrame:
    """Side a: one row a trip, without the time at which it began, which no pair depends on."""
    cell_m = side_m(radius_m)
    a = trips.drop("pickup_us").withColumns(
        {
            "place_1": cell_of(F.col("dropoff_lat"), F.col("dropoff_lon"), cell_m),
            "place_2": cell_of(F.col("pickup_lat"), F.col("pickup_lon"), cell_m),
        }
    )
    return side(a, "a")


def _returns(trips: DataFrame, radius_m: float) -> DataFrame:
    """Side b: one row for every pair of cells near its pickup and near its drop-off."""
    cell_m = side_m(radius_m)
    b = trips.drop("dropoff_us")
    for end, place in (("pickup", "place_1"), ("dropoff", "place_2")):
        b = repeated_per_cell(
            b, f"{end}_lat", f"{end}_lon", place, radius_m=radius_m, side_m=cell_m
        )
    return side(b, "b").observe(RETURNS_KEYED, F.count(F.lit(1)).alias("rows"))

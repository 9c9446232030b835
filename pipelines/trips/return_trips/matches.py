"""One return for each trip, and the trips that have none."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas import RETURN_TRIP_MATCHES, RETURN_TRIPS

# What the return of a trip is the smallest by; the id last, so that a tie has one outcome.
_ORDERS = {
    "first": ("wait_s", "gap_m", "return_trip_id"),
    "nearest": ("gap_m", "wait_s", "return_trip_id"),
}
MATCHES = tuple(sorted(_ORDERS))
HOWS = ("inner", "left")


def one_each(pairs: DataFrame, match: str) -> DataFrame:
    """Rows of gold.return_trip_matches for the trips that have a return.

    `pairs` are rows of gold.return_trips. `match` is `first`, the return that begins the soonest,
    or `nearest`, the one whose larger gap is the smallest; ties go to the other of the two, then to
    the smaller trip id. A trip may be the return of several: each outbound trip chooses alone.
    """
    order = _ORDERS[match]
    gap_m = F.greatest("dropoff_gap_m", "pickup_gap_m").alias("gap_m")
    rest = [c.name for c in RETURN_TRIPS.columns if c.name not in (*order, "trip_id", "dropoff_at")]
    ranked = F.struct(*(gap_m if c == "gap_m" else F.col(c) for c in order), *map(F.col, rest))
    best = pairs.groupBy("trip_id", "dropoff_at").agg(F.min(ranked).alias("best"))
    rows = best.select("trip_id", "dropoff_at", "best.*").drop("gap_m")
    return RETURN_TRIP_MATCHES.conform(rows)


def with_unmatched(matches: DataFrame, trips: DataFrame) -> DataFrame:
    """The matches, and every other one of the trips with NULL for its return.

    `trips` has trip_id and dropoff_at of the outbound trips.
    """
    returned = matches.drop("dropoff_at")
    rows = trips.select("trip_id", "dropoff_at").join(returned, "trip_id", "left")
    return RETURN_TRIP_MATCHES.conform(rows)

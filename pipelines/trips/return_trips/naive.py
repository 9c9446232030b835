"""Every trip against every trip: the definition itself, to check the other methods with."""

from __future__ import annotations

from pyspark.sql import DataFrame

from pipelines.trips.return_trips.predicate import is_pair, pairs_of, side


def pairs(outbound: DataFrame, inbound: DataFrame, *, radius_m: float, window_us: int) -> DataFrame:
    """Return trips among all outbound x inbound pairs, see `pipelines.trips.return_trips`.

    Costs one comparison a pair: for inputs of some ten thousand trips.
    """
    candidates = side(outbound, "a").crossJoin(side(inbound, "b"))
    return pairs_of(candidates.where(is_pair(radius_m, window_us)))

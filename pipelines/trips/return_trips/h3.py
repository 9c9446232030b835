"""The plan of `bucketed` on Uber's hexagons: both ends and the time in the key.

Of each end one side takes the cell that holds it and the other every cell of the disk round it, so
every pair meets under exactly one key, as in `bucketed`. The resolution is the finest whose disk is
sure to reach the radius where the trips are; the average edge would lose pairs.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.trips.return_trips.bucketed import in_time_cell, over_window, pairs_by_key
from pipelines.trips.return_trips.predicate import side
from udfs.geometry import widened_m
from udfs.h3_cells import Bounds, cell_of, disk_round, finest_resolution

STEPS = 2
"""Steps from the middle of a disk to its rim: 19 small cells cost less than 7 large ones, in which
far more candidates meet."""


def pairs(outbound: DataFrame, inbound: DataFrame, *, radius_m: float, window_us: int) -> DataFrame:
    """Return trips by a join on H3 cells, see `pipelines.trips.return_trips`.

    Reads both sides once for the box that holds their points, when it is called.
    """
    bounds = _bounds(outbound, inbound)
    resolution = finest_resolution(widened_m(radius_m), STEPS, bounds) if bounds else None
    a = over_window(outbound, window_us)
    b = in_time_cell(inbound, window_us)
    pickup, dropoff = ((F.col(f"{end}_lat"), F.col(f"{end}_lon")) for end in ("pickup", "dropoff"))
    if resolution is None:  # no points, or a radius of more than a continent: time alone is the key
        everywhere = F.lit(0).cast("bigint")
        a, b = (t.withColumns({"place_1": everywhere, "place_2": everywhere}) for t in (a, b))
    else:
        a = a.withColumn("place_2", cell_of(*pickup, resolution))
        a = a.withColumn("place_1", F.explode(disk_round(*dropoff, resolution, STEPS)))
        b = b.withColumn("place_1", cell_of(*pickup, resolution))
        b = b.withColumn("place_2", F.explode(disk_round(*dropoff, resolution, STEPS)))
    return pairs_by_key(side(a, "a"), side(b, "b"), radius_m=radius_m, window_us=window_us)


def _bounds(outbound: DataFrame, inbound: DataFrame) -> Bounds | None:
    """The box of all four ends; None where there are no trips."""
    both = outbound.unionAll(inbound)
    lats, lons = ([F.col(f"{end}_{c}") for end in ("pickup", "dropoff")] for c in ("lat", "lon"))
    row = both.agg(
        F.min(F.least(*lats)),
        F.min(F.least(*lons)),
        F.max(F.greatest(*lats)),
        F.max(F.greatest(*lons)),
    ).head()
    return None if row is None or row[0] is None else Bounds(*row)

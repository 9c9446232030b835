"""Both ends and the time cut into cells, so that trips which may belong together share a key.

The key has three parts: the cell where the outbound trip ended and the return began, the cell
where the outbound trip began and the return ended, and a cell of time. Of each part one side
takes exactly the cell that holds it, and the other side is repeated for every cell that its
search range touches. So every pair meets under exactly one key, and no de-duplication is needed:

    part                        outbound trip (a)               return trip (b)
    a's drop-off, b's pickup    every cell near its drop-off    the cell of its pickup
    a's pickup, b's drop-off    the cell of its pickup          every cell near its drop-off
    a's drop-off, b's pickup    every cell of the window        the cell of its pickup time

With cells of side s, a search range of radius r touches (1 + 2r/s)^2 of them on average. Smaller
cells mean more repeated rows and fewer candidates; see `SIDE_IN_RADII`.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.trips.return_trips.predicate import is_pair, pairs_of, side
from udfs.geometry import (
    cell_id,
    cell_of,
    cells_round,
    lat_idx_range,
    lon_idx_range,
)

SIDE_IN_RADII = 2.0
"""Side of a cell in radii; measured, see benchmarks/README.md."""

WINDOWS_PER_CELL = 0.5
"""Length of a cell of time in windows; measured likewise."""

KEY = ("place_1", "place_2", "time_idx")
"""The three parts of the key, in the columns a_* and b_* of `keyed_sides`."""


def pairs(outbound: DataFrame, inbound: DataFrame, *, radius_m: float, window_us: int) -> DataFrame:
    """Return trips by a join on cells, see `pipelines.trips.return_trips`."""
    a, b = keyed_sides(outbound, inbound, radius_m=radius_m, window_us=window_us)
    return pairs_by_key(a, b, radius_m=radius_m, window_us=window_us)


def pairs_by_key(a: DataFrame, b: DataFrame, *, radius_m: float, window_us: int) -> DataFrame:
    """Pairs of two sides, prefixed a_ and b_, that share `KEY`."""
    same_key = [F.col(f"a_{k}") == F.col(f"b_{k}") for k in KEY]
    condition = same_key[0] & same_key[1] & same_key[2] & is_pair(radius_m, window_us)
    return pairs_of(a.join(b, condition, "inner"))


def keyed_sides(
    outbound: DataFrame, inbound: DataFrame, *, radius_m: float, window_us: int
) -> tuple[DataFrame, DataFrame]:
    """Both sides, prefixed a_ and b_, repeated for every key under which they can meet."""
    cell_m = side_m(radius_m)
    at_end = repeated_per_cell(
        outbound, "dropoff_lat", "dropoff_lon", "place_1", radius_m=radius_m, side_m=cell_m
    )
    a = at_end.withColumn("place_2", cell_of(F.col("pickup_lat"), F.col("pickup_lon"), cell_m))
    b = repeated_per_cell(
        inbound, "dropoff_lat", "dropoff_lon", "place_2", radius_m=radius_m, side_m=cell_m
    )
    b = b.withColumn("place_1", cell_of(F.col("pickup_lat"), F.col("pickup_lon"), cell_m))
    # Last, so that what is worked out above is worked out once for all cells of time.
    return side(over_window(a, window_us), "a"), side(in_time_cell(b, window_us), "b")


def side_m(radius_m: float) -> float:
    """Side of a cell in metres."""
    return radius_m * SIDE_IN_RADII


def over_window(outbound: DataFrame, window_us: int) -> DataFrame:
    """Outbound trips once for every cell of time in which a return may begin: `time_idx`."""
    cell_us = _time_cell_us(window_us)
    first = _time_idx(F.col("dropoff_us") + 1, cell_us)
    last = _time_idx(F.col("dropoff_us") + (window_us - 1), cell_us)
    return outbound.withColumn("time_idx", F.explode(F.sequence(first, last)))


def in_time_cell(inbound: DataFrame, window_us: int) -> DataFrame:
    """Trips with the one cell of time in which they begin: `time_idx`."""
    return inbound.withColumn("time_idx", _time_idx(F.col("pickup_us"), _time_cell_us(window_us)))


def _time_cell_us(window_us: int) -> int:
    return max(1, round(window_us * WINDOWS_PER_CELL))


def repeated_per_cell(
    trips: DataFrame, lat: str, lon: str, name: str, *, radius_m: float, side_m: float
) -> DataFrame:
    """Each trip once for every cell within `radius_m` of its point; `name` is the cell's id."""
    first_row, last_row = lat_idx_range(F.col(lat), radius_m, side_m)
    rows = trips.withColumn("row", F.explode(F.sequence(first_row, last_row)))
    rows = rows.withColumn("round", cells_round(F.col("row"), side_m))
    first, last = lon_idx_range(F.col(lat), F.col(lon), radius_m, F.col("round"))
    rows = rows.withColumn("at", F.explode(F.sequence(first, last)))
    index = F.pmod(F.col("at"), F.col("round"))
    return rows.withColumn(name, cell_id(F.col("row"), index)).drop("row", "round", "at")


def _time_idx(at_us: Column, cell_us: int) -> Column:
    # On the multiple below, so that the quotient is exact before 1970 too.
    return ((at_us - F.pmod(at_us, F.lit(cell_us))) / cell_us).cast("bigint")

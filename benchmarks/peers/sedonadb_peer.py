"""Two plans in SedonaDB, the engine on one machine that shares Sedona's functions: a join by hash
with both ends keyed, and its own spatial join.

SedonaDB keeps a join in memory, and both plans repeat rows: 24 days at once take tens of gigabytes.
So outbound trips are taken a day at a time, with the trips that can go back from them.

Its spatial join knows neither time nor a second pair of points, so the plane is folded as for
Sedona on Spark: every cell of time and every cell of the far end has a place of its own on it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa

from benchmarks.plain_grid import WINDOW_US, degrees
from udfs.geometry import EARTH_RADIUS_M

_SLICE_US = 24 * 3600 * 10**6

# Cells of one radius and a whole window, the quickest of r, 1.4 r and 2 r by a whole window and
# half of one; the spatial join likes half a window better.
_KEYED_CELL_US, _SPATIAL_CELL_US = WINDOW_US, WINDOW_US // 2

_CELL = "CAST(floor(({x}) / {size}) AS BIGINT)"
_GAP = """2 * {earth_m} * asin(least(1.0, sqrt(
    power(sin(radians({lat_2} - {lat_1}) / 2), 2) + cos(radians({lat_1})) * cos(radians({lat_2}))
    * power(sin(radians({lon_2} - {lon_1}) / 2), 2))))"""

# Both sides: `ends` once for every cell near the drop-off, `a` and `b` once for every cell of time.
_SIDES = """
WITH outbound AS (SELECT *, {far_lat} AS far_lat, {far_lon} AS far_lon FROM trips
                  WHERE dropoff_us >= {start} AND dropoff_us < {start} + {slice_us}),
     inbound AS (SELECT *, {far_lat} AS far_lat, {far_lon} AS far_lon FROM trips
                 WHERE pickup_us > {start} AND pickup_us < {start} + {slice_us} + {window_us}),
     in_time AS (SELECT *, unnest(range((dropoff_us + 1) / {cell_us},
                                        (dropoff_us + {window_us} - 1) / {cell_us} + 1)) AS time
                 FROM outbound),
     near AS (SELECT *, {cells_lat} AS lat FROM inbound),
     b AS (SELECT *, {cells_lon} AS lon, pickup_us / {cell_us} AS time FROM near)
"""

_KEYED_SQL = (
    _SIDES
    + """, a_near AS (SELECT *, {cells_lat} AS lat FROM in_time),
     a AS (SELECT *, {cells_lon} AS lon FROM a_near)
SELECT count(*) AS n FROM a JOIN b
    ON a.lat = b.far_lat AND a.lon = b.far_lon AND a.far_lat = b.lat AND a.far_lon = b.lon
    AND a.time = b.time AND {is_pair}
"""
)

# Ten degrees apart, which is farther than New York is wide. A sum of multiples tells the cells of
# the far end apart; it is compared as a difference, because an equality would make it a hash join.
_SPATIAL_SQL = (
    _SIDES
    + """, a AS (SELECT *, ST_Point(dropoff_lon * {shrink} + time % 1000 * 10.0,
        dropoff_lat + (far_lat * 7919 + far_lon) % 100000 * 10.0) AS point FROM in_time),
     b_point AS (SELECT *, ST_Point(pickup_lon * {shrink} + time % 1000 * 10.0,
        pickup_lat + (lat * 7919 + lon) % 100000 * 10.0) AS point FROM b)
SELECT count(*) AS n FROM a JOIN b_point b
    ON ST_DWithin(a.point, b.point, {reach}) AND a.far_lat - b.lat = 0 AND a.far_lon - b.lon = 0
    AND {is_pair}
"""
)


def keyed(path: Path, radius_m: float) -> int:
    """The number of pairs by a hash join, both ends and the time in the key."""
    return _count(_KEYED_SQL, path, radius_m, _KEYED_CELL_US)


def spatial(path: Path, radius_m: float) -> int:
    """The number of pairs by SedonaDB's spatial join. RuntimeError where it does not plan one."""
    return _count(_SPATIAL_SQL, path, radius_m, _SPATIAL_CELL_US, must_plan="SpatialJoinExec")


def _count(sql: str, path: Path, radius_m: float, cell_us: int, must_plan: str = "") -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for PROJ and GDAL, which nothing here needs
        return _count_by_slices(sql, path, radius_m, cell_us, must_plan)


def _count_by_slices(sql: str, path: Path, radius_m: float, cell_us: int, must_plan: str) -> int:
    import sedonadb

    db = sedonadb.connect()
    db.read_parquet(str(path)).to_view("trips")
    times = pa.table(db.sql("SELECT min(dropoff_us) AS a, max(dropoff_us) AS z FROM trips"))
    first, last = (times[c][0].as_py() for c in ("a", "z"))
    pairs = 0
    for start in range(first, last + 1, _SLICE_US) if first is not None else ():
        query = _filled(sql, radius_m, cell_us, start)
        if must_plan and must_plan not in str(pa.table(db.sql(f"EXPLAIN {query}")).to_pydict()):
            raise RuntimeError(f"SedonaDB does not plan this as {must_plan}: {query}")
        pairs += int(pa.table(db.sql(query))["n"][0].as_py())
    return pairs


def _filled(sql: str, radius_m: float, cell_us: int, start: int) -> str:
    reach, reach_lon = degrees(radius_m)  # a cell is as wide

    def gap(end_1: str, end_2: str) -> str:
        return _GAP.format(
            earth_m=EARTH_RADIUS_M,
            lat_1=f"{end_1}_lat",
            lon_1=f"{end_1}_lon",
            lat_2=f"{end_2}_lat",
            lon_2=f"{end_2}_lon",
        )

    is_pair = (
        f"b.pickup_us > a.dropoff_us AND b.pickup_us - a.dropoff_us < {WINDOW_US}"
        f" AND abs(b.pickup_lat - a.dropoff_lat) < {reach}"
        f" AND abs(b.dropoff_lat - a.pickup_lat) < {reach} AND a.trip_id <> b.trip_id"
        f" AND {gap('a.dropoff', 'b.pickup')} < {radius_m}"
        f" AND {gap('a.pickup', 'b.dropoff')} < {radius_m}"
    )

    def cells(column: str, size: float) -> str:
        low, high = (_CELL.format(x=f"{column} {sign} {size}", size=size) for sign in "-+")
        return f"unnest(range({low}, {high} + 1))"

    return sql.format(
        start=start,
        slice_us=_SLICE_US,
        window_us=WINDOW_US,
        cell_us=cell_us,
        far_lat=_CELL.format(x="pickup_lat", size=reach),
        far_lon=_CELL.format(x="pickup_lon", size=reach_lon),
        cells_lat=cells("dropoff_lat", reach),
        cells_lon=cells("dropoff_lon", reach_lon),
        shrink=reach / reach_lon,
        reach=reach,
        is_pair=is_pair,
    )

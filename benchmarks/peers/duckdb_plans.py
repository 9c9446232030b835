"""Two plans in DuckDB's SQL: the seed of the idea, and both ends keyed as in `bucketed`."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from benchmarks.plain_grid import WINDOW_US, degrees
from udfs.geometry import EARTH_RADIUS_M

# Both plans end in the same test as ours: cheap parts first.
_MACROS = """
CREATE MACRO cell(x, size) AS floor(x / size)::BIGINT;
CREATE MACRO cells(x, reach, size) AS range(cell(x - reach, size), cell(x + reach, size) + 1);
CREATE MACRO gap_m(lat_1, lon_1, lat_2, lon_2) AS 2 * {earth_m} * asin(least(1, sqrt(
    sin(radians(lat_2 - lat_1) / 2) ** 2
    + cos(radians(lat_1)) * cos(radians(lat_2)) * sin(radians(lon_2 - lon_1) / 2) ** 2)));
"""

_IS_PAIR = """
    b.pickup_us > a.dropoff_us AND b.pickup_us - a.dropoff_us < {window_us}
    AND abs(b.pickup_lat - a.dropoff_lat) < {reach} AND abs(b.dropoff_lat - a.pickup_lat) < {reach}
    AND a.trip_id <> b.trip_id
    AND gap_m(a.dropoff_lat, a.dropoff_lon, b.pickup_lat, b.pickup_lon) < {radius_m}
    AND gap_m(a.pickup_lat, a.pickup_lon, b.dropoff_lat, b.dropoff_lon) < {radius_m}
"""

_SEED_SQL = """
WITH a1 AS (SELECT *, cell(dropoff_lat, {side_lat}) + unnest([-1, 0, 1]) AS lat FROM trips),
     a2 AS (SELECT *, cell(dropoff_lon, {side_lon}) + unnest([-1, 0, 1]) AS lon FROM a1),
     a AS (SELECT *, dropoff_us // {cell_us} + unnest([0, 1]) AS time FROM a2),
     b AS (SELECT *, cell(pickup_lat, {side_lat}) AS lat, cell(pickup_lon, {side_lon}) AS lon,
                     pickup_us // {cell_us} AS time FROM trips)
SELECT count(*) FROM a JOIN b ON a.lat = b.lat AND a.lon = b.lon AND a.time = b.time AND {is_pair}
"""

_KEYED_SQL = """
WITH near AS (SELECT *, unnest(cells(dropoff_lat, {reach}, {side_lat})) AS lat FROM trips),
     ends AS (SELECT *, unnest(cells(dropoff_lon, {reach_lon}, {side_lon})) AS lon,
                     cell(pickup_lat, {side_lat}) AS far_lat,
                     cell(pickup_lon, {side_lon}) AS far_lon FROM near),
     a AS (SELECT *, unnest(range((dropoff_us + 1) // {cell_us},
                                  (dropoff_us + {window_us} - 1) // {cell_us} + 1)) AS time
           FROM ends)
SELECT count(*) FROM a JOIN ends b
    ON a.lat = b.far_lat AND a.lon = b.far_lon AND a.far_lat = b.lat AND a.far_lon = b.lon
    AND a.time = b.pickup_us // {cell_us} AND {is_pair}
"""


def seed(path: Path, radius_m: float, *, scratch: Path, cores: int) -> int:
    """The number of pairs by the plan of `seed_plan`, 18 rows a trip."""
    return _count(_SEED_SQL, path, radius_m, radius_m, WINDOW_US, scratch, cores)


def keyed(path: Path, radius_m: float, *, scratch: Path, cores: int) -> int:
    """The number of pairs by the plan of `bucketed`."""
    return _count(_KEYED_SQL, path, radius_m, 2 * radius_m, WINDOW_US // 2, scratch, cores)


def _count(
    sql: str, path: Path, radius_m: float, side_m: float, cell_us: int, scratch: Path, cores: int
) -> int:
    side_lat, side_lon = degrees(side_m)
    reach, reach_lon = degrees(radius_m)
    known = {"window_us": WINDOW_US, "radius_m": radius_m, "reach": reach}
    query = sql.format(
        reach=reach,
        reach_lon=reach_lon,
        side_lat=side_lat,
        side_lon=side_lon,
        cell_us=cell_us,
        window_us=WINDOW_US,
        is_pair=_IS_PAIR.format(**known),
    )
    # Half of the memory, because Spark holds its share in the same run; beyond that it spills.
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": cores,
        "temp_directory": str(scratch),
        "memory_limit": f"{memory}B",
    }
    with duckdb.connect(config=config) as db:
        db.execute(_MACROS.format(earth_m=EARTH_RADIUS_M))
        db.read_parquet(str(path)).create_view("trips")
        row = db.execute(query).fetchone()
    assert row is not None
    return int(row[0])

"""Ways to count return trips, each from a Parquet file to the number of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import duckdb
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.trips.return_trips import METHODS
from pipelines.trips.return_trips.predicate import is_pair, pairs_of, side
from udfs.geometry import EARTH_RADIUS_M

WINDOW_US = 8 * 3600 * 10**6
Contender = Callable[[Path, float], int]

# Plans in SQL use a plain grid: degrees of longitude at the northern edge of the box, where they
# are shortest. That holds for New York, not for the poles; ours holds for both.
_NORTH_EDGE_DEG = 42.0


def contenders(spark: SparkSession, scratch: Path, cores: int) -> dict[str, Contender]:
    """Every contender by name. Spark and DuckDB get the same cores."""
    names = {f"{m} (Spark)": _of(spark, m) for m in METHODS if m != "naive"}
    names["seed, 18 rows a trip (Spark)"] = lambda path, r: seed_plan(spark, path, r).count()
    names["seed, 18 rows a trip (DuckDB)"] = lambda path, r: _duckdb(
        _SEED_SQL, path, r, side_m=r, cell_us=WINDOW_US, scratch=scratch, cores=cores
    )
    names["both ends keyed (DuckDB)"] = lambda path, r: _duckdb(
        _KEYED_SQL, path, r, side_m=2 * r, cell_us=WINDOW_US // 2, scratch=scratch, cores=cores
    )
    return names


def _of(spark: SparkSession, method: str) -> Contender:
    def count(path: Path, radius_m: float) -> int:
        trips = spark.read.parquet(str(path))
        return METHODS[method](trips, trips, radius_m=radius_m, window_us=WINDOW_US).count()

    return count


def seed_plan(spark: SparkSession, path: Path, radius_m: float) -> DataFrame:
    """The seed of the idea: an outbound trip goes into the 9 cells round its drop-off and into 2
    cells of time, 18 rows in all; a return lies in the one cell of its pickup. The far end has no
    part in the key.
    """
    trips = spark.read.parquet(str(path))
    side_lat, side_lon = _degrees(radius_m)

    def cell(value: str, size: float) -> Column:
        return F.floor(F.col(value) / size)

    near = F.array(*map(F.lit, (-1, 0, 1)))
    a = side(trips, "a")
    a = a.withColumn(
        "lat", F.explode(F.transform(near, lambda i: cell("a_dropoff_lat", side_lat) + i))
    )
    a = a.withColumn(
        "lon", F.explode(F.transform(near, lambda i: cell("a_dropoff_lon", side_lon) + i))
    )
    at = F.floor(F.col("a_dropoff_us") / WINDOW_US)
    a = a.withColumn("time", F.explode(F.array(at, at + 1)))
    b = side(trips, "b")
    b = (
        b.withColumn("b_lat", cell("b_pickup_lat", side_lat))
        .withColumn("b_lon", cell("b_pickup_lon", side_lon))
        .withColumn("b_time", F.floor(F.col("b_pickup_us") / WINDOW_US))
    )
    key = (
        (F.col("lat") == F.col("b_lat"))
        & (F.col("lon") == F.col("b_lon"))
        & (F.col("time") == F.col("b_time"))
    )
    return pairs_of(a.join(b, key & is_pair(radius_m, WINDOW_US)))


def _degrees(length_m: float) -> tuple[float, float]:
    """Latitude and longitude that span `length_m` everywhere in the box."""
    lat = math.degrees(length_m / EARTH_RADIUS_M) * (1 + 1e-6)
    return lat, lat / math.cos(math.radians(_NORTH_EDGE_DEG))


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


def _duckdb(
    sql: str,
    path: Path,
    radius_m: float,
    *,
    side_m: float,
    cell_us: int,
    scratch: Path,
    cores: int,
) -> int:
    side_lat, side_lon = _degrees(side_m)
    reach, reach_lon = _degrees(radius_m)
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
    with duckdb.connect(config={"threads": cores, "temp_directory": str(scratch)}) as db:
        db.execute(_MACROS.format(earth_m=EARTH_RADIUS_M))
        db.read_parquet(str(path)).create_view("trips")
        row = db.execute(query).fetchone()
    assert row is not None
    return int(row[0])

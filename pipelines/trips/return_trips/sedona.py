"""Apache Sedona's distance join on the end where the outbound trip ended and the return began.

Sedona joins two columns of points in the plane; it knows neither time nor a second pair of points.
So each trip is laid on a plane on which points closer than r metres stay closer than r, and which
has a place of its own for every cell of time and for the cell in which the other end lies, by the
hash of that cell: a month makes the plane longer, and not more candidates per trip.

The plane. The Earth is cut into zones of latitude. In a zone, y is the latitude and x the longitude
in units such that the disc of r round any point that may pair with one of the zone is at most r
high and r wide. A return lies in the zone and the time cell that hold its pickup. An outbound trip
is repeated for every zone and every time cell in reach, and a turn round the Earth farther east or
west where its disc crosses the antimeridian; `a_turn` lets one of the turns count. So every pair
meets once. The other end is keyed as in `bucketed`: one cell for the outbound trip, every cell in
reach for the return. What Sedona finds is decided by our own predicate.
"""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.trips.return_trips.bucketed import (
    in_time_cell,
    over_window,
    repeated_per_cell,
    side_m,
)
from pipelines.trips.return_trips.predicate import is_pair, pairs_of, side
from udfs.geometry import cell_of, lat_degrees, lon_half_width_degrees, widened_m
from udfs.native import has_class

_CLASS = "org.apache.sedona.spark.SedonaContext"
_ZONE_DEGREES = 1.0
_EARTH_LENGTH_M = 4.1e7  # a hair more than the circumference
_PLACES = 10_000  # for the cells of the other end
# Coordinates of the plane reach 1e13 m for times of this century, where doubles lie 2 mm apart, and
# for a radius of a continent ten times as far.
_MARGIN_M, _MARGIN_SHARE = 0.01, 1e-6
# Below this width the plane is flat enough for a disc to be a disc on it, but for a thousandth
# (sin x >= x - x^3 / 6); above, a disc fits into its square.
_FLAT_DEGREES = 5.0
_FLAT_STRETCH, _SQUARE_STRETCH = 1.001, math.sqrt(2)


def pairs(outbound: DataFrame, inbound: DataFrame, *, radius_m: float, window_us: int) -> DataFrame:
    """Return trips by Sedona's distance join, see `pipelines.trips.return_trips`.

    Raises UsageError where Sedona's jar is not on Spark's class path, RuntimeError where Spark
    would not plan a distance join, which compares every trip with every other.
    """
    register(outbound.sparkSession)
    search_m = widened_m(radius_m)
    cell_m = side_m(radius_m)
    a = outbound.withColumn("far", cell_of(F.col("pickup_lat"), F.col("pickup_lon"), cell_m))
    a = _outbound_points(over_window(a, window_us), search_m)
    b = repeated_per_cell(
        inbound, "dropoff_lat", "dropoff_lon", "far", radius_m=radius_m, side_m=cell_m
    )
    b = in_time_cell(b, window_us).withColumn("zone", _zone(F.col("pickup_lat"), search_m))
    b = b.withColumn("turn", F.lit(0))
    b = b.withColumn("point", _point(F.col("pickup_lat"), _lon("pickup_lon"), search_m))
    a, b = side(a, "a"), side(b, "b")
    eastwards = _lon("b_pickup_lon") - _lon("a_dropoff_lon")
    turn = F.when(eastwards >= 180, 1).when(eastwards < -180, -1).otherwise(0)
    near = F.expr(
        f"ST_Distance(a_point, b_point) <= {search_m * (1 + _MARGIN_SHARE) + _MARGIN_M!r}"
    )
    # As a difference, because beside an equality Spark plans a join by hash. Cells of one hash
    # share a place, and only here are told apart.
    same_far = (F.col("a_far") - F.col("b_far")) == 0
    once = same_far & (F.col("a_turn") == turn)
    joined = a.join(b, near & once & is_pair(radius_m, window_us))
    plan = joined._jdf.queryExecution().sparkPlan().toString()
    joins = ("Join", "CartesianProduct")  # none where Spark sees that a side is empty
    if "DistanceJoin" not in plan and any(name in plan for name in joins):
        raise RuntimeError(f"Spark does not plan this as Sedona's distance join: {plan[:2000]}")
    return pairs_of(joined)


def register(spark: SparkSession) -> None:
    """Add Sedona's functions and its join to the session. UsageError where its jar is missing."""
    if not has_class(spark, _CLASS):
        raise UsageError(
            "method sedona needs Sedona's jar on Spark's class path: run `roundtrip-fetch-jars`, "
            "or use method bucketed"
        )
    spark._jvm.org.apache.sedona.spark.SedonaContext.create(spark._jsparkSession)  # type: ignore[union-attr]


def _outbound_points(trips: DataFrame, search_m: float) -> DataFrame:
    """Outbound trips once for every zone in reach and every turn that may be needed."""
    lat, reach = F.col("dropoff_lat"), lat_degrees(search_m)
    first, last = _zone(lat - reach, search_m), _zone(lat + reach, search_m)
    rows = trips.withColumn("zone", F.explode(F.sequence(first, last)))
    lon, width = _lon("dropoff_lon"), _width_degrees(search_m)
    nowhere = F.lit(None).cast("int")
    turns = F.array(
        F.lit(0),
        F.when(lon - width <= -180, 1).otherwise(nowhere),
        F.when(lon + width >= 180, -1).otherwise(nowhere),
    )
    rows = rows.withColumn("turn", F.explode(F.array_compact(turns)))
    return rows.withColumn("point", _point(lat, lon + 360.0 * F.col("turn"), search_m))


def _zone_height(search_m: float) -> float:
    """Degrees; enough for a disc to lie in two zones at most."""
    return max(_ZONE_DEGREES, min(180.0, 2 * lat_degrees(search_m)))


def _zone(lat: Column, search_m: float) -> Column:
    height = _zone_height(search_m)
    last = math.ceil(180.0 / height) - 1
    index = F.floor((lat + 90.0) / height)
    return F.least(F.greatest(index, F.lit(0)), F.lit(last)).cast("int")


def _width_degrees(search_m: float) -> Column:
    """Half the longitudes of a disc round whatever may pair with a point of the row's zone."""
    height, reach = _zone_height(search_m), lat_degrees(search_m)
    south = F.col("zone") * height - 90.0 - reach
    farthest = F.greatest(F.abs(south), F.abs(south + height + 2 * reach))
    return lon_half_width_degrees(F.least(farthest, F.lit(90.0)), search_m)


def _lon(name: str) -> Column:
    return F.pmod(F.col(name) + 180.0, F.lit(360.0)) - 180.0


def _point(lat: Column, lon: Column, search_m: float) -> Column:
    """Where a row lies on the plane, from its `zone`, `time_idx` and `far`."""
    width = _width_degrees(search_m)
    stretch = F.when(width < _FLAT_DEGREES, _FLAT_STRETCH).otherwise(_SQUARE_STRETCH)
    x = lon * (F.lit(search_m) / width / stretch)
    y = lat * (F.lit(search_m / lat_degrees(search_m)) / stretch)
    # Zones a few radii apart, and what belongs to other cells beyond all of them.
    apart_m = 4 * _EARTH_LENGTH_M + 200 * 4 * search_m
    y = y + F.col("zone") * (4 * search_m)
    y = y + F.pmod(F.xxhash64("far"), F.lit(_PLACES)) * apart_m
    x = x + F.col("time_idx") * apart_m
    return F.call_function("ST_Point", x, y)

"""Distances and grid cells on a sphere, as Spark columns.

Latitudes and longitudes are WGS84 degrees, lengths are metres, the Earth is a sphere of radius
`EARTH_RADIUS_M`. Everything here is a pure column expression, so it runs inside Spark's generated
code and needs no Python worker.

The grid. A cell has a latitude index, counted from the south pole in steps of `side_m`, and a
longitude index, counted eastwards from the antimeridian. The number of cells round the circle
depends on the latitude index alone, so two points in one row of cells are always cut alike,
however far from the equator they are. Both indexes are packed in one 64-bit cell id.
"""

from __future__ import annotations

import math

from pyspark.sql import Column
from pyspark.sql import functions as F

EARTH_RADIUS_M = 6_371_000.0

# A cell id is lat_idx * 2^32 + lon_idx.
_LON_BITS = 32

# A search radius is widened by this share and by this length, so that rounding (nanometres for
# coordinates in degrees) can never lose a cell that the exact arithmetic would have named.
_WIDEN_SHARE = 1e-6
_WIDEN_M = 1e-6


def haversine_m(lat_1: Column, lon_1: Column, lat_2: Column, lon_2: Column) -> Column:
    """Great-circle distance in metres (haversine formula, R. W. Sinnott, 1984).

    Symmetric to the last bit: swapping the points gives the same double. Every engine decides
    "closer than r" with this one expression, which is why they agree exactly.
    """
    half_lat = F.radians(lat_2 - lat_1) / 2
    half_lon = F.radians(lon_2 - lon_1) / 2
    h = F.sin(half_lat) * F.sin(half_lat) + F.cos(F.radians(lat_1)) * F.cos(
        F.radians(lat_2)
    ) * F.sin(half_lon) * F.sin(half_lon)
    # Rounding can lift h a hair over 1 at the antipode, where asin would give NaN.
    return F.lit(2 * EARTH_RADIUS_M) * F.asin(F.least(F.sqrt(h), F.lit(1.0)))


def lat_degrees(length_m: float) -> float:
    """Degrees of latitude that `length_m` metres along a meridian span."""
    return math.degrees(length_m / EARTH_RADIUS_M)


def widened_m(radius_m: float) -> float:
    """The radius in metres that a search must use so that rounding loses nothing."""
    return radius_m * (1 + _WIDEN_SHARE) + _WIDEN_M


def lon_half_width_degrees(lat: Column, radius_m: float) -> Column:
    """Half the longitude range, in degrees, of the disc of `radius_m` round a point at `lat`.

    asin(sin(r/R) / cos(lat)); 180 where the disc holds a pole, so that it spans the circle.
    """
    angle = radius_m / EARTH_RADIUS_M
    if angle >= math.pi / 2:
        return F.lit(180.0)
    holds_pole = F.abs(F.radians(lat)) + angle >= math.pi / 2
    sine = F.least(F.lit(math.sin(angle)) / F.cos(F.radians(lat)), F.lit(1.0))
    return F.when(holds_pole, F.lit(180.0)).otherwise(F.degrees(F.asin(sine)))


def lat_idx(lat: Column, side_m: float) -> Column:
    """Index of the row of cells that holds `lat`, from 0 at the south pole (bigint)."""
    return F.floor((lat + 90.0) / lat_degrees(side_m))


def lat_idx_range(lat: Column, radius_m: float, side_m: float) -> tuple[Column, Column]:
    """First and last row of cells that the disc of `radius_m` round `lat` touches (bigint)."""
    reach = lat_degrees(widened_m(radius_m))
    last = math.floor(180.0 / lat_degrees(side_m))
    return (
        F.greatest(lat_idx(lat - reach, side_m), F.lit(0)),
        F.least(lat_idx(lat + reach, side_m), F.lit(last)),
    )


def cells_round(row: Column, side_m: float) -> Column:
    """How many cells stand round the circle in the row of cells `row` (bigint, at least 1)."""
    side = lat_degrees(side_m)
    middle = F.radians((row + 0.5) * side - 90.0)
    return F.greatest(F.floor(360.0 / side * F.cos(middle)), F.lit(1))


def _turn(lon: Column) -> Column:
    """Longitude as a share of the circle, from 0 at the antimeridian."""
    return F.pmod(lon + 180.0, F.lit(360.0)) / 360.0


def lon_idx(lon: Column, round_: Column) -> Column:
    """Index of the cell that holds `lon` among `round_` cells round the circle (bigint)."""
    return F.pmod(F.floor(_turn(lon) * round_), round_)


def lon_idx_range(
    lat: Column, lon: Column, radius_m: float, round_: Column
) -> tuple[Column, Column]:
    """First and last longitude index of the disc, before wrapping: take each modulo `round_`.

    At most `round_` long, so each cell comes once even where the disc spans the circle.
    """
    half = lon_half_width_degrees(lat, widened_m(radius_m)) / 360.0
    first = F.floor((_turn(lon) - half) * round_)
    last = F.floor((_turn(lon) + half) * round_)
    return first, F.least(last, first + round_ - 1)


def cell_id(row: Column, index: Column) -> Column:
    """One 64-bit id of the cell at latitude index `row` and longitude index `index`."""
    return F.shiftleft(row, _LON_BITS).bitwiseOR(index)


def cell_of(lat: Column, lon: Column, side_m: float) -> Column:
    """Id of the cell of side `side_m` metres that holds the point (bigint)."""
    row = lat_idx(lat, side_m)
    return cell_id(row, lon_idx(lon, cells_round(row, side_m)))


def cell_centre(cell: int, side_m: float) -> tuple[float, float]:
    """Latitude and longitude in degrees of the middle of the cell with this id."""
    row, index = cell >> _LON_BITS, cell & ((1 << _LON_BITS) - 1)
    side = lat_degrees(side_m)
    lat = (row + 0.5) * side - 90.0
    round_ = max(1, math.floor(360.0 / side * math.cos(math.radians(lat))))
    return min(lat, 90.0), (index + 0.5) / round_ * 360.0 - 180.0

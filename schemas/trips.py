"""Tables of the trips: from delivered files to return trips."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql.types import ArrayType, MapType

from schemas.table import (
    BIGINT,
    DATE,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    Column,
    Table,
    between,
)

_FILE_ID = Column(
    "file_id", STRING, "SHA-256 of the file's uncompressed content, hexadecimal", nullable=False
)
_SOURCE_ROW = Column("source_row", BIGINT, "data row in that file, from 0", nullable=False)
_FIELDS = Column(
    "fields", MapType(STRING, STRING), "the row as delivered: header of the source to its text"
)


def _lat(name: str, comment: str) -> Column:
    return Column(name, DOUBLE, comment, "degrees north, WGS84", nullable=False)


def _lon(name: str, comment: str) -> Column:
    return Column(name, DOUBLE, comment, "degrees east, WGS84", nullable=False)


DELIVERIES = Table(
    name="bronze.deliveries",
    comment="One row per delivered file; written last, it marks the file as done.",
    columns=(
        _FILE_ID,
        Column("paths", ArrayType(STRING), "every path under which it was seen", nullable=False),
        Column("bytes", BIGINT, "size as delivered", "bytes", nullable=False),
        Column("layout", STRING, "mapping that recognised it", nullable=False),
        Column("rules", STRING, "what decided over its rows: box, longest duration, time zone"),
        Column("rows_read", BIGINT, "data rows", nullable=False),
        Column("rows_accepted", BIGINT, "rows in silver.trips", nullable=False),
        Column("rows_rejected", BIGINT, "rows in silver.trips_rejected", nullable=False),
        Column("run_id", STRING, "run that ingested it, see ops.runs", nullable=False),
    ),
    key=("file_id",),
    checks={
        "rows_add_up": "rows_read = rows_accepted + rows_rejected",
        "file_id_is_sha256": "length(file_id) = 64",
    },
)

TRIPS_RAW = Table(
    name="bronze.trips_raw",
    comment="Every row of every delivered file, as text, under a schema that never changes.",
    columns=(
        _FIELDS,
        _FILE_ID,
        _SOURCE_ROW,
        Column("layout", STRING, "mapping that recognised the file", nullable=False),
    ),
    key=("file_id", "source_row"),
    cluster_by=("file_id",),
)

TRIPS = Table(
    name="silver.trips",
    comment="Clean trips: one row per row of a delivered file that is a trip.",
    columns=(
        Column("trip_id", BIGINT, "xxhash64(file_id, source_row)", nullable=False),
        Column("service", STRING, "yellow, green, or what the mapping names"),
        Column("pickup_at", TIMESTAMP, "start of the trip", "UTC", nullable=False),
        Column("dropoff_at", TIMESTAMP, "end of the trip", "UTC", nullable=False),
        _lat("pickup_lat", "where it started"),
        _lon("pickup_lon", "where it started"),
        _lat("dropoff_lat", "where it ended"),
        _lon("dropoff_lon", "where it ended"),
        Column("distance_mi", DOUBLE, "distance by the meter", "miles"),
        Column("fare_usd", DOUBLE, "fare by the meter", "USD"),
        Column("tip_usd", DOUBLE, "tip, cash not included", "USD"),
        Column("tolls_usd", DOUBLE, "tolls", "USD"),
        Column("total_usd", DOUBLE, "total charged", "USD"),
        Column("passengers", INT, "passengers, as the driver entered them"),
        Column("payment_type", STRING, "as delivered: a code or a word"),
        Column("vendor", STRING, "as delivered"),
        Column("day", DATE, "local date of the pickup, in the file's time zone", nullable=False),
        _FILE_ID,
        _SOURCE_ROW,
    ),
    key=("trip_id",),
    cluster_by=("day", "pickup_at"),
    checks={
        "starts_before_it_ends": "dropoff_at >= pickup_at",
        "pickup_on_earth": "abs(pickup_lat) <= 90 AND abs(pickup_lon) <= 180",
        "dropoff_on_earth": "abs(dropoff_lat) <= 90 AND abs(dropoff_lon) <= 180",
    },
    expectations=(
        between("distance_mi", 0, 100, mostly=0.99, level="warn"),
        between("fare_usd", 0, 500, mostly=0.99, level="warn"),
        between("passengers", 0, 9, mostly=0.99, level="warn"),
    ),
    # Who works on the trips of a day wants to know what has come since.
    properties={"delta.enableChangeDataFeed": "true"},
    time="dropoff_at",
)

TRIPS_REJECTED = Table(
    name="silver.trips_rejected",
    comment="Rows that are not trips, as delivered, with every reason.",
    columns=(
        _FIELDS,
        _FILE_ID,
        _SOURCE_ROW,
        Column("reasons", ArrayType(STRING), "every reason, sorted", nullable=False),
    ),
    key=("file_id", "source_row"),
    cluster_by=("file_id",),
    checks={"has_a_reason": "size(reasons) > 0"},
)

RETURN_TRIPS = Table(
    name="gold.return_trips",
    comment=(
        "Pairs of trips of which the second goes back the way the first came: one row per pair "
        "with the smallest radius that it satisfies. The radii, the window and the match are "
        "properties of the table."
    ),
    columns=(
        Column("trip_id", BIGINT, "outbound trip (a)", nullable=False),
        Column("return_trip_id", BIGINT, "trip that goes back (b)", nullable=False),
        Column("dropoff_at", TIMESTAMP, "drop-off of the outbound trip", "UTC", nullable=False),
        Column("wait_s", DOUBLE, "from that drop-off to the return's pickup", "s", False),
        Column("dropoff_gap_m", DOUBLE, "from a's drop-off to b's pickup", "m", False),
        Column("pickup_gap_m", DOUBLE, "from a's pickup to b's drop-off", "m", False),
        Column("radius_m", INT, "smallest radius asked for that exceeds both gaps", "m", False),
    ),
    key=("trip_id", "return_trip_id"),
    cluster_by=("dropoff_at", "trip_id"),
    checks={
        "two_trips": "trip_id <> return_trip_id",
        "waits": "wait_s > 0",
        "gaps_below_radius": "greatest(dropoff_gap_m, pickup_gap_m) < radius_m",
    },
    time="dropoff_at",
)

RETURN_TRIP_MATCHES = Table(
    name="gold.return_trip_matches",
    comment=(
        "One return for each trip, the first or the nearest, as the property roundtrip.match says. "
        "With roundtrip.how = left, trips without a return are here too, with NULL for it."
    ),
    columns=(
        Column("trip_id", BIGINT, "outbound trip (a)", nullable=False),
        Column("return_trip_id", BIGINT, "trip that goes back (b); null where none does"),
        Column("dropoff_at", TIMESTAMP, "drop-off of the outbound trip", "UTC", nullable=False),
        Column("wait_s", DOUBLE, "from that drop-off to the return's pickup", "s"),
        Column("dropoff_gap_m", DOUBLE, "from a's drop-off to b's pickup", "m"),
        Column("pickup_gap_m", DOUBLE, "from a's pickup to b's drop-off", "m"),
        Column("radius_m", INT, "smallest radius asked for that exceeds both gaps", "m"),
    ),
    key=("trip_id",),
    cluster_by=("dropoff_at", "trip_id"),
    checks={
        "two_trips": "return_trip_id IS NULL OR trip_id <> return_trip_id",
        "all_or_nothing": (
            "(return_trip_id IS NULL) = (radius_m IS NULL) AND (return_trip_id IS NULL) = "
            "(wait_s IS NULL)"
        ),
        "waits": "wait_s IS NULL OR wait_s > 0",
        "gaps_below_radius": (
            "radius_m IS NULL OR greatest(dropoff_gap_m, pickup_gap_m) < radius_m"
        ),
    },
    time="dropoff_at",
)

RETURN_TRIPS_LIVE = replace(
    RETURN_TRIPS,
    name="gold.return_trips_live",
    comment=(
        "The same pairs, found as trips arrive and never replaced. The radii, the window, the "
        "longest return trip and how late a trip may come are properties of the table."
    ),
)

RETURN_TRIP_STATS = Table(
    name="gold.return_trip_stats",
    comment=(
        "Return trips by hour of the outbound drop-off and by radius; cumulative, a radius counts "
        "every pair closer than it."
    ),
    columns=(
        Column("hour_at", TIMESTAMP, "start of the hour", "UTC", nullable=False),
        Column("day", DATE, "local date of that hour", nullable=False),
        Column("hour", INT, "local hour of the day, 0 to 23", nullable=False),
        Column("radius_m", INT, "radius", "m", nullable=False),
        Column("trips", BIGINT, "trips that ended in the hour", nullable=False),
        Column("pairs", BIGINT, "return trips of those trips", nullable=False),
        Column("trips_with_return", BIGINT, "of those trips, with one at least", nullable=False),
        Column("share_with_return", DOUBLE, "trips_with_return / trips", "0 to 1", False),
        Column("median_wait_s", DOUBLE, "median over the pairs; null without pairs", "s"),
    ),
    key=("hour_at", "radius_m"),
    cluster_by=("hour_at",),
    checks={
        "no_more_than_all": "trips_with_return <= trips AND trips_with_return <= pairs",
        "share": "share_with_return BETWEEN 0 AND 1",
    },
    time="hour_at",
)

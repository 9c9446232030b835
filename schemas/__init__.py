"""What a table is: each table of the lake declared once, as a constant."""

from schemas.ops import QUALITY_RESULTS, RUNS
from schemas.table import Column, Expectation, SchemaMismatch, Table, between
from schemas.trips import (
    DELIVERIES,
    RETURN_TRIP_MATCHES,
    RETURN_TRIP_STATS,
    RETURN_TRIPS,
    RETURN_TRIPS_LIVE,
    TRIPS,
    TRIPS_RAW,
    TRIPS_REJECTED,
)

TABLES: tuple[Table, ...] = (
    DELIVERIES,
    TRIPS_RAW,
    TRIPS,
    TRIPS_REJECTED,
    RETURN_TRIPS,
    RETURN_TRIP_MATCHES,
    RETURN_TRIPS_LIVE,
    RETURN_TRIP_STATS,
    RUNS,
    QUALITY_RESULTS,
)
"""Every table of the lake, in the order in which data flows through them."""

__all__ = [
    "DELIVERIES",
    "QUALITY_RESULTS",
    "RETURN_TRIPS",
    "RETURN_TRIPS_LIVE",
    "RETURN_TRIP_MATCHES",
    "RETURN_TRIP_STATS",
    "RUNS",
    "TABLES",
    "TRIPS",
    "TRIPS_RAW",
    "TRIPS_REJECTED",
    "Column",
    "Expectation",
    "SchemaMismatch",
    "Table",
    "between",
]

"""The tables of the lake as assets: which job makes them, and what they are checked for.

Without postponed annotations, of which Dagster would see only the text.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from jobs.schedule.launch import POOL, RETRY, launch, metadata
from schemas import (
    DELIVERIES,
    RETURN_TRIP_STATS,
    RETURN_TRIPS,
    TRIPS,
    TRIPS_RAW,
    TRIPS_REJECTED,
    Table,
)

TIMEZONE = os.environ.get("TIMEZONE", "America/New_York")  # whose midnight ends a day
FIRST_DAY = os.environ.get("FIRST_DAY", "2009-01-01")  # the city's records begin here
DAYS = dg.DailyPartitionsDefinition(FIRST_DAY, timezone=TIMEZONE)

_CHECK = "quality"


def key(table: Table) -> dg.AssetKey:
    return dg.AssetKey(table.name.split("."))


def lake() -> str:
    return os.environ.get("LAKE", "lake")


def _docs() -> str:
    return os.environ.get("QUALITY_DOCS", "quality")


def spec(table: Table, *deps: Table) -> dg.AssetSpec:
    return dg.AssetSpec(
        key(table),
        deps=[key(d) for d in deps],
        group_name=table.name.split(".")[0],
        description=table.comment,
        kinds={"deltalake", "spark"},
        metadata={
            "dagster/table_name": table.name,
            "dagster/uri": f"{lake()}/{table.relative_path}",
            "dagster/column_schema": _columns(table),
        },
    )


def _columns(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                c.name,
                c.type.simpleString(),
                c.description,
                dg.TableColumnConstraints(nullable=c.nullable),
            )
            for c in table.columns
        ]
    )


def check_spec(table: Table) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        _CHECK,
        asset=key(table),
        description=f"Everything that is expected of {table.name}, by Great Expectations: its "
        "columns, key and constraints, and figures of it. What is worth a warning warns; what must "
        "stop a pipeline fails.",
    )


class LandedFile(dg.Config):
    """A file that has landed."""

    path: str = Field(description="its full path, or any URL that ingest_trips takes")
    arguments: list[str] = Field(
        default=shlex.split(os.environ.get("INGEST_ARGUMENTS", "")),
        description="further arguments, such as --mapping porto.toml "
        "(default: those of INGEST_ARGUMENTS)",
    )


@dg.multi_asset(
    name="ingest",
    specs=[
        spec(TRIPS_RAW),
        spec(TRIPS, TRIPS_RAW),
        spec(TRIPS_REJECTED, TRIPS_RAW),
        spec(DELIVERIES, TRIPS, TRIPS_REJECTED),
    ],
    check_specs=[check_spec(TRIPS_REJECTED)],
    retry_policy=RETRY,
    pool=POOL,
)
def ingest(
    context: dg.AssetExecutionContext, config: LandedFile
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """One landed file into bronze and silver. A file that is refused changes no table."""
    line = launch(context, "ingest_trips", config.path, "--lake", lake(), *config.arguments)
    for table in (TRIPS_RAW, TRIPS, TRIPS_REJECTED, DELIVERIES):
        yield dg.MaterializeResult(key(table), metadata=metadata(line))
    yield checked(context, TRIPS_REJECTED)


@dg.multi_asset(
    name="return_trips",
    specs=[spec(RETURN_TRIPS, TRIPS), spec(RETURN_TRIP_STATS, TRIPS, RETURN_TRIPS)],
    check_specs=[check_spec(RETURN_TRIPS), check_spec(RETURN_TRIP_STATS)],
    partitions_def=DAYS,
    retry_policy=RETRY,
    pool=POOL,
)
def return_trips(
    context: dg.AssetExecutionContext,
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """A day's return trips. The day's trips are checked first: bad ones leave gold as it was."""
    day = _interval(context.partition_key)
    line = launch(context, "return_trips", "--gate", *day, *_where())
    for table in (RETURN_TRIPS, RETURN_TRIP_STATS):
        yield dg.MaterializeResult(key(table), metadata=metadata(line))
    for table in (RETURN_TRIPS, RETURN_TRIP_STATS):
        yield checked(context, table, *day)


def _interval(partition: str) -> list[str]:
    """--start and --end of a day, by the clock of TIMEZONE."""
    end = str(date.fromisoformat(partition) + timedelta(days=1))
    return ["--start", partition, "--end", end, "--timezone", TIMEZONE]


def _where() -> list[str]:
    return ["--lake", lake(), "--docs", _docs()]


def checked(context: dg.AssetExecutionContext, table: Table, *interval: str) -> dg.AssetCheckResult:
    arguments = (table.name, *interval, *_where())
    line = launch(context, "check_quality", *arguments, of=table.name, may_be_refused=True)
    return check_result(table, line)


def check_result(table: Table, line: Mapping[str, Any]) -> dg.AssetCheckResult:
    """A check's result from the last line of check_quality: refused, warn or passed."""
    refused = line.get("outcome") == "refused"
    return dg.AssetCheckResult(
        passed=not refused and line.get("quality") == "passed",
        asset_key=key(table),
        check_name=_CHECK,
        severity=dg.AssetCheckSeverity.ERROR if refused else dg.AssetCheckSeverity.WARN,
        metadata=metadata(line),
    )

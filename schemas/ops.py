"""Tables about the platform itself."""

from __future__ import annotations

from pyspark.sql.types import MapType

from schemas.table import BIGINT, BOOLEAN, DOUBLE, STRING, TIMESTAMP, Column, Table

RUNS = Table(
    name="ops.runs",
    comment=(
        "Two rows a run of a job: one when it starts, one when it ends. A start without an end "
        "is a run that was lost."
    ),
    columns=(
        Column("run_id", STRING, "given by --run-id or RUN_ID, else made", nullable=False),
        Column("job", STRING, "name of the job", nullable=False),
        Column("event", STRING, "start or end", nullable=False),
        Column("at", TIMESTAMP, "when", "UTC", nullable=False),
        Column("outcome", STRING, "running; then done, failed, usage or refused", nullable=False),
        Column("arguments", STRING, "arguments of the run, JSON", nullable=False),
        Column("versions", MapType(STRING, STRING), "of roundtrip, its commit, Spark, Python"),
        Column("tables_in", MapType(STRING, BIGINT), "version of each table read"),
        Column("tables_out", MapType(STRING, BIGINT), "version of each table after the run"),
        Column("rows", MapType(STRING, BIGINT), "rows by name: read, accepted, written"),
        Column("seconds", MapType(STRING, DOUBLE), "wall time by step", "s"),
        Column("error", STRING, "what went wrong, in one line"),
    ),
    key=("run_id", "event"),
    checks={"known_event": "event IN ('start', 'end')"},
)

QUALITY_RESULTS = Table(
    name="ops.quality_results",
    comment="One row for each expectation that a run of check_quality looked at.",
    columns=(
        Column("run_id", STRING, "run that checked, see ops.runs", nullable=False),
        Column("at", TIMESTAMP, "when", "UTC", nullable=False),
        Column("checked", STRING, "table that was checked", nullable=False),
        Column("version", BIGINT, "its version", nullable=False),
        Column("start", TIMESTAMP, "the interval checked begins; null: the whole table", "UTC"),
        Column("end", TIMESTAMP, "and ends before this time", "UTC"),
        Column("batch", STRING, "rows looked at: the table's, or figures of them", nullable=False),
        Column("expectation", STRING, "type of the expectation", nullable=False),
        Column("arguments", STRING, "its arguments, JSON", nullable=False),
        Column("level", STRING, "error stops the pipeline, warn is only told", nullable=False),
        Column("success", BOOLEAN, "whether it held", nullable=False),
        Column("rows", BIGINT, "rows looked at; null where that is no matter of rows"),
        Column("unexpected", BIGINT, "rows that were otherwise"),
        Column("unexpected_share", DOUBLE, "of the rows that have a value", "0 to 1"),
        Column("observed", STRING, "what was seen, for expectations on all rows at once"),
        Column("examples", STRING, "some values that were otherwise, JSON"),
    ),
    key=("run_id", "batch", "expectation", "arguments"),
    checks={"known_level": "level IN ('warn', 'error')"},
    time="at",
)

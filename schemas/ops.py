"""Tables about the platform itself."""

from __future__ import annotations

from pyspark.sql.types import MapType

from schemas.table import BIGINT, DOUBLE, STRING, TIMESTAMP, Column, Table

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

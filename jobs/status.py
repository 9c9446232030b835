"""What the platform has been doing: the last runs, and how far each table is behind."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lake import Lake
from jobs.return_trips_stream import JOB as STREAM
from jobs.run import Run, parser, run_job
from pipelines.errors import UsageError
from schemas import (
    FIGURES,
    QUALITY_RESULTS,
    QUESTIONS,
    RETURN_TRIPS_LIVE,
    RUNS,
    TABLES,
    TRIPS,
    Table,
)

JOB = "status"

RUNNING, LOST = "running", "lost"

# Nothing tells a run that is at work from one that was killed, but how long ago it began.
_LONGEST_RUN = timedelta(hours=6)
# What others are made from, and the layers of those.
_MADE_FROM: tuple[tuple[Table, tuple[str, ...]], ...] = (
    (TRIPS, ("gold.",)),
    (FIGURES, ("silver.", "gold.")),
    (QUESTIONS, ("silver.", "gold.")),
)


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Show the last runs of a lake's jobs, and which tables are stale.",
        "  spark-submit jobs/status.py --lake lake --last 20\n"
        "  a run that began and never ended shows as lost, or as running in its first 6 hours, a\n"
        "  stream for as long as it is at work (the last one always in a lake on a bucket, where\n"
        "  nothing tells); a table is stale where what it is made from has changed since the run\n"
        "  that wrote it last",
    )
    made.add_argument(
        "--last", type=int, default=20, metavar="N", help="so many runs at most (default 20)"
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    run.begun()  # it looks at ops.runs too
    if run.args.last < 1:
        raise UsageError(f"--last {run.args.last}: write 1 or more")
    with run.step("read"):
        others = run.read(RUNS).where(F.col("run_id") != run.run_id)
        runs = _last_runs(run.lake, others, run.args.last, datetime.now(UTC))
        tables = _tables(run)
    _print_runs(runs)
    _print_tables(tables)
    return {
        "lost": [r["run_id"] for r in runs if r["outcome"] == LOST],
        "stale": [t["table"] for t in tables if t["stale"]],
        "failing_quality": [t["table"] for t in tables if t["quality"] == "error"],
    }


def _last_runs(lake: Lake, runs: DataFrame, last: int, now: datetime) -> list[dict[str, Any]]:
    """One entry a run, the newest first. A start without an end is a run that was lost."""
    is_end = F.col("event") == "end"
    ended = F.max(
        F.when(is_end, F.struct(F.unix_micros("at").alias("at"), "outcome", "rows", "error"))
    )
    newest = (
        runs.withColumn("rows", F.to_json("rows"))
        .groupBy("run_id", "job")
        .agg(F.unix_micros(F.min("at")).alias("started"), ended.alias("end"))
        .orderBy(F.desc("started"))
        .limit(last)
        .collect()
    )
    # A stream works for weeks, and there is one at a time.
    streams = (r["run_id"] for r in newest if r["job"] == STREAM and not r["end"])
    stream = next(streams, None)

    def outcome(run_id: str, started: datetime) -> str:
        if now - started < _LONGEST_RUN:
            return RUNNING
        at_work = run_id == stream and lake.folder.may_have_only_writer(RETURN_TRIPS_LIVE)
        return RUNNING if at_work else LOST

    return [
        {
            "run_id": r["run_id"],
            "job": r["job"],
            "started": _moment(r["started"]),
            "ended": _moment(r["end"]["at"]) if r["end"] else None,
            "outcome": r["end"]["outcome"]
            if r["end"]
            else outcome(r["run_id"], _moment(r["started"])),
            "rows": r["end"]["rows"] if r["end"] else None,
            "error": r["end"]["error"] if r["end"] else None,
        }
        for r in newest
    ]


def _tables(run: Run) -> list[dict[str, Any]]:
    """One entry for each table that is there."""
    stale = _stale(run)
    quality = _quality(run)
    found = []
    for table in TABLES:
        version = run.lake.version(table)
        if version is None:
            continue
        found.append(
            {
                "table": table.name,
                "version": version,
                "written": run.lake.written_at(table),
                "newest": _newest(run, table),
                "stale": ", ".join(stale.get(table.name, ())),
                "quality": quality.get(table.name, ""),
            }
        )
    return found


def _stale(run: Run) -> dict[str, list[str]]:
    """Per table, what has changed since the last run that wrote it had read it."""
    wrote = run.lake.read(RUNS).where(
        (F.col("event") == "end") & (F.col("outcome") == "done") & F.col("tables_out").isNotNull()
    )
    found: dict[str, list[str]] = {}
    for source, layers in _MADE_FROM:
        read = F.col("tables_in")[source.name]
        rows = (
            wrote.select("at", F.explode("tables_out"), read.alias("read"))
            .where(F.col("read").isNotNull())
            .groupBy("key")
            .agg(F.max_by("read", "at").alias("read"))
            .collect()
        )
        changes = {v: run.lake.changes_after(source, v) for v in {r["read"] for r in rows}}
        for r in rows:
            if r["key"].startswith(layers) and (n := changes[r["read"]]):
                times = "once" if n == 1 else f"{n} times"
                said = f"{source.name} has changed {times} since"
                found.setdefault(r["key"], []).append(said)
    return found


def _quality(run: Run) -> dict[str, str]:
    """Per table, how its last check ended: passed, warn or error."""
    if not run.lake.exists(QUALITY_RESULTS):
        return {}
    results = run.lake.read(QUALITY_RESULTS)
    last = results.groupBy("checked").agg(F.max_by("run_id", "at").alias("run_id"))
    failed = F.max(
        F.when(F.col("success"), 0).when(F.col("level") == "warn", 1).otherwise(2)
    ).alias("failed")
    rows = results.join(last, ["checked", "run_id"]).groupBy("checked").agg(failed).collect()
    return {r["checked"]: ("passed", "warn", "error")[r["failed"]] for r in rows}


def _newest(run: Run, table: Table) -> datetime | None:
    if table.time is None:
        return None
    newest = run.lake.read(table).agg(F.unix_micros(F.max(table.time))).collect()[0][0]
    return None if newest is None else _moment(newest)


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)


def _print_runs(runs: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{'started (UTC)':<17} {'job':<20} {'outcome':<8} {'took':>9}  rows, error")
    for r in runs:
        took = f"{(r['ended'] - r['started']).total_seconds():,.1f} s" if r["ended"] else ""
        said = "  ".join(filter(None, [r["rows"] if r["rows"] != "{}" else "", r["error"]]))
        print(
            f"{r['started']:%Y-%m-%d %H:%M}  {r['job']:<20} {r['outcome']:<8} {took:>9}  "
            f"{said[:120]}"
        )


def _print_tables(tables: Sequence[Mapping[str, Any]]) -> None:
    head = f"{'version':>8} {'written (UTC)':<17} {'newest row':<17} {'quality':<8}"
    print(f"\n{'table':<28} {head} stale")
    for t in tables:
        newest = f"{t['newest']:%Y-%m-%d %H:%M}" if t["newest"] else ""
        print(
            f"{t['table']:<28} {t['version']:>8} {t['written']:%Y-%m-%d %H:%M}  {newest:<17} "
            f"{t['quality']:<8} {t['stale']}"
        )
    print()


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

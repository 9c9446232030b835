"""Check a table against what is expected of it: into ops.quality_results, and onto a page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.pair_table import WINDOW_S
from jobs.quality import Checker, Verdict, worst
from jobs.quality_page import write_page
from jobs.run import Run
from pipelines.errors import DataRefused
from pipelines.figures.quality import (
    copies_across_splits,
    examples_of_questions,
    splits_of_groups,
)
from pipelines.quality import Batch
from pipelines.quality.suites import batch_of
from pipelines.trips.quality import (
    TRAILING_DAYS,
    deliveries_by_file,
    pairs_without_trips,
    stats_against_pairs,
    trips_by_day,
)
from pipelines.trips.return_trips.intervals import Interval, in_whole_hours, prolonged, within
from schemas import (
    DELIVERIES,
    FIGURE_GROUPS,
    FIGURE_PAIRS,
    QUALITY_RESULTS,
    RETURN_TRIP_MATCHES,
    RETURN_TRIP_STATS,
    RETURN_TRIPS,
    RETURN_TRIPS_LIVE,
    TRIPS,
    TRIPS_REJECTED,
    VLM_EXAMPLES,
    Table,
)
from schemas.frames import frame_of


def add_docs(made: argparse.ArgumentParser) -> None:
    """--docs, the folder of the pages."""
    made.add_argument(
        "--docs",
        type=Path,
        default=Path("quality"),
        metavar="DIR",
        help="folder of the pages of checks (default ./quality)",
    )


def check_table(
    run: Run, table: Table, interval: Interval | None, *, window: timedelta = timedelta(0)
) -> dict[str, Any]:
    """Check a table's rows, of the interval where there is one; fields for the job's JSON line.

    The job has --docs and --timezone. Of trips that are about to be joined, those that begin up to
    `window` after the interval are checked too, and their files, but not how many their day has:
    it may not be over. Raises DataRefused, which names the page, where an expectation of level
    `error` does not hold.
    """
    docs = run.args.docs
    verdicts: list[Verdict] = []
    with run.step("plan"):
        checker = Checker(docs, run_id=run.run_id)
        own = batch_of(table, _within(run.read_pinned(table), table, interval, window))
        batches = [own, *_figures(run, table, interval, own.rows)]
    with checker:
        checker.fetch(batches)
        for batch in batches:
            with run.step(f"check {batch.name}"):
                verdicts += checker.check(batch)
    with run.step(f"write {QUALITY_RESULTS.name}"):
        run.lake.append(QUALITY_RESULTS, _rows(run, table, interval, verdicts))
        run.wrote(QUALITY_RESULTS)
    page = write_page(
        docs,
        table.name,
        rows_of=_rows_of(run, table, interval),
        run_id=run.run_id,
        at=datetime.now(UTC),
        verdicts=verdicts,
    )
    _print_summary(run, verdicts, page)
    failed = [v for v in verdicts if not v.success]
    run.rows.update(checked=max((v.rows or 0 for v in verdicts), default=0))
    if stopping := [v for v in verdicts if v.stops]:
        raise DataRefused(
            f"{table.name} is not as it must be: {'; '.join(map(_said, stopping))} -- see {page}",
            page=page,
        )
    return {
        "quality": worst(verdicts),
        "expectations": len(verdicts),
        "not_met": [_said(v) for v in failed],
        "page": str(page),
    }


def _figures(run: Run, table: Table, interval: Interval | None, checked: DataFrame) -> list[Batch]:
    """Figures of the table, and of what it must agree with; `checked` has its rows' columns."""
    pair_tables = (RETURN_TRIPS, RETURN_TRIP_MATCHES, RETURN_TRIPS_LIVE)
    if table is TRIPS:
        files = None if interval is None else checked.select("file_id").distinct()
        return [_by_day(run, interval), deliveries_by_file(_deliveries(run, files))]
    if table is TRIPS_REJECTED:
        return [deliveries_by_file(run.read_pinned(DELIVERIES))]
    if table in pair_tables:
        pairs = _within(run.read_pinned(table), table, interval)
        return [pairs_without_trips(pairs, _trips_around(run, table, interval))]
    if table is FIGURE_GROUPS:
        groups = run.read_pinned(table)
        return [
            splits_of_groups(groups),
            copies_across_splits(groups, run.read_pinned(FIGURE_PAIRS)),
        ]
    if table is VLM_EXAMPLES:
        return [examples_of_questions(run.read_pinned(table), run.read_pinned(FIGURE_GROUPS))]
    if table is RETURN_TRIP_STATS:
        # Rows are of whole hours, which a day of a zone such as Kolkata's does not begin with.
        hours = None if interval is None else in_whole_hours([interval])[0]
        pairs = _within(run.read_pinned(RETURN_TRIPS), RETURN_TRIPS, hours)
        return [stats_against_pairs(_within(run.read_pinned(table), table, hours), pairs)]
    return []


def _by_day(run: Run, interval: Interval | None) -> Batch:
    """Figures by day, for the local days that lie in the interval."""
    if interval is None:
        return trips_by_day(run.read_pinned(TRIPS))
    zone = ZoneInfo(run.args.timezone)
    first = interval.start.astimezone(zone).date() if interval.start else None
    last = None
    if interval.end:
        last = (interval.end - timedelta(microseconds=1)).astimezone(zone).date()
    trips = run.read_pinned(TRIPS)
    if first:
        trips = trips.where(F.col("day") >= F.lit(first - timedelta(days=TRAILING_DAYS)))
    if last:
        trips = trips.where(F.col("day") <= F.lit(last))
    # Between changes that an incremental run joins there may be days that nobody has trips of.
    asked = not getattr(run.args, "incremental", False)
    return trips_by_day(trips, first=first, last=last, asked=asked)


def _deliveries(run: Run, files: DataFrame | None) -> DataFrame:
    """All files, or those of `files`.

    A file of which no row is a trip is of no day: what is amiss with it would be with every one.
    """
    deliveries = run.read_pinned(DELIVERIES)
    if files is None:
        return deliveries
    return deliveries.join(F.broadcast(files), "file_id", "left_semi")


def _trips_around(run: Run, table: Table, interval: Interval | None) -> DataFrame:
    """The trips that pairs of the interval may name: a return begins up to the window later."""
    trips = run.read_pinned(TRIPS)
    if interval is None:
        return trips
    window = timedelta(seconds=float(run.lake.properties(table)[WINDOW_S]))
    late = interval.end + window if interval.end else None
    if interval.start:
        trips = trips.where(F.col("dropoff_at") >= F.lit(interval.start))
    return trips.where(F.col("pickup_at") < F.lit(late)) if late else trips


def _within(
    rows: DataFrame,
    table: Table,
    interval: Interval | None,
    window: timedelta = timedelta(0),
) -> DataFrame:
    if interval is None or table.time is None:
        return rows
    inside = within(table.time, [interval])
    if window:
        inside |= within("pickup_at", prolonged([interval], window))
    return rows.where(inside)


def _rows(
    run: Run, table: Table, interval: Interval | None, verdicts: Sequence[Verdict]
) -> DataFrame:
    start, end = (interval.start, interval.end) if interval else (None, None)
    rows = [
        (
            run.run_id,
            datetime.now(UTC),
            table.name,
            run.tables_in[table.name],
            start,
            end,
            v.batch,
            v.expectation.type,
            json.dumps(v.expectation.kwargs, sort_keys=True),
            v.expectation.level,
            v.success,
            v.rows,
            v.unexpected,
            v.unexpected_share,
            v.observed,
            v.examples,
        )
        for v in verdicts
    ]
    return frame_of(run.spark, rows, QUALITY_RESULTS.struct)


def _rows_of(run: Run, table: Table, interval: Interval | None) -> str:
    """Which rows were looked at, in words."""
    version = f"Version {run.tables_in[table.name]}"
    if interval is None:
        return f"{version}, all rows"
    zone = ZoneInfo(run.args.timezone)
    start, end = (
        x and f"{x.astimezone(zone):%Y-%m-%d %H:%M}" for x in (interval.start, interval.end)
    )
    words = [f"from {start}" if start else "", f"before {end}" if end else ""]
    return f"{version}, rows {' and '.join(filter(None, words))}, time of {run.args.timezone}"


def _print_summary(run: Run, verdicts: Sequence[Verdict], page: Path) -> None:
    print(f"\n{'batch':<30} {'expectation':<58} {'rows':>11} {'otherwise':>10}")
    for v in verdicts:
        mark = "" if v.success else f"  <- {v.expectation.level}"
        rows = f"{v.rows:,}" if v.rows is not None else ""
        otherwise = f"{v.unexpected:,}" if v.unexpected is not None else (v.observed or "")[:10]
        print(f"{v.batch:<30} {v.words[:58]:<58} {rows:>11} {otherwise:>10}{mark}")
    held = sum(v.success for v in verdicts)
    print(f"\n{held} of {len(verdicts)} expectations are met: {worst(verdicts)}")
    print(f"page: {page}")
    print(", ".join(f"{k} {s:.1f} s" for k, s in run.seconds.items()) + "\n")


def _said(v: Verdict) -> str:
    """What does not hold, with how much and an example."""
    much = f": {v.unexpected:,} of {v.rows:,} rows" if v.unexpected is not None else ""
    seen = f", observed {v.observed}" if v.observed else ""
    some = f", such as {v.examples}" if v.examples else ""
    return f"{v.batch}: {v.words}{much}{some or seen}"

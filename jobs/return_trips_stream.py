"""silver.trips becomes gold.return_trips_live, batch by batch as trips arrive.

The table and the stream's checkpoint, LAKE/.checkpoints/return_trips_live/ID, belong together: ID
is a property of the table. Spark notes in the checkpoint what a batch reads before it begins, and
Delta notes in the table which batch its rows are from, so each batch lands once however often the
job is killed.
"""

from __future__ import annotations

import argparse
import math
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.errors import StreamingQueryException

from jobs.arguments import duration
from jobs.pair_table import RADII, WINDOW_S, add_pair_rules, pair_rules, seconds_of
from jobs.run import Run, log, parser, run_job
from jobs.streams import Batch, ended_by_signals, state_settings, watch
from pipelines.errors import UsageError
from pipelines.trips.return_trips.live import (
    LATENESS,
    MAX_DURATION,
    PAIRS_FOUND,
    RETURNS_KEYED,
    TRIPS_SEEN,
    live_return_trips,
)
from schemas import RETURN_TRIPS_LIVE, TRIPS
from schemas.frames import frame_of

JOB = "return_trips_stream"

# Properties of gold.return_trips_live, beside those of gold.return_trips.
MAX_DURATION_S, LATENESS_S = "roundtrip.max_duration_s", "roundtrip.lateness_s"
STREAM = "roundtrip.stream"

_CHECKPOINTS = "return_trips_live"
_AGAIN = "run with --again to begin again with the first trip (the live pairs are written anew)"

# What Delta says of a source that does not go on where the stream has read to.
_REWRITTEN = (
    "DELTA_SOURCE_TABLE_IGNORE_CHANGES",
    "DELTA_SOURCE_IGNORE_DELETE",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_MISSING_FILES_UNEXPECTED_VERSION",
    "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
)


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Find return trips as trips arrive in a lake.",
        "  python jobs/return_trips_stream.py --lake lake --every 30s\n"
        "  looks every 30 seconds for trips that are new in silver.trips, and adds the return\n"
        "  trips that they make to gold.return_trips_live, until Ctrl-C; the next run goes on\n"
        "  where this one ended",
    )
    add_pair_rules(made)
    made.add_argument(
        "--max-duration",
        type=duration,
        default=MAX_DURATION,
        metavar="TIME",
        help="a trip as long as this or longer is no return trip; outbound trips are remembered "
        "for this and the window (default 24h)",
    )
    made.add_argument(
        "--lateness",
        type=duration,
        default=LATENESS,
        metavar="TIME",
        help="a trip may come this much later than trips that ended after it; later ones are "
        "left out and counted. Files that are cut by the pickup, a day or a month each, need as "
        "much as --max-duration (default 1h)",
    )
    made.add_argument(
        "--max-files",
        type=_count,
        default=1000,
        metavar="N",
        help="most files of silver.trips read in a batch; trips of one commit that it cuts in two "
        "may come too late for each other (default 1000)",
    )
    made.add_argument(
        "--partitions",
        type=_count,
        metavar="N",
        help="parts of the state, fixed by the first run (default one a core)",
    )
    made.add_argument(
        "--every",
        type=duration,
        default=timedelta(seconds=10),
        metavar="TIME",
        help="how often to look for new trips (default 10s)",
    )
    made.add_argument(
        "--once", action="store_true", help="end when the trips that are there now are done"
    )
    made.add_argument(
        "--again",
        action="store_true",
        help="forget the live pairs and begin again with the first trip, under this run's rules",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    args = run.args
    trips = run.lake.stream(TRIPS, max_files=args.max_files)
    pairs = live_return_trips(
        trips,
        radii_m=args.radii_m,
        window=args.window,
        max_duration=args.max_duration,
        lateness=args.lateness,
    )
    with run.lake.folder.only_writer(RETURN_TRIPS_LIVE), ended_by_signals() as asked_to_end:
        checkpoint = _checkpoint(run, _rules(args))
        seen = _Seen()

        def done(batch: Batch) -> None:
            seen.add(batch)
            _log_batch(batch)

        with run.step("stream"), state_settings(run.spark, args.partitions):
            writer = pairs.writeStream.format("delta").option("checkpointLocation", checkpoint)
            trigger = (
                writer.trigger(availableNow=True)
                if args.once
                else writer.trigger(processingTime=f"{args.every.total_seconds()} seconds")
            )
            try:
                query = trigger.queryName(JOB).start(run.lake.path(RETURN_TRIPS_LIVE))
                watch(query, asked_to_end, done)
            except StreamingQueryException as e:
                raise _explained(e) from e
    run.rows.update(
        trips_read=seen.trips,
        pairs_written=seen.pairs,
        too_long=seen.too_long,
        in_future=seen.in_future,
        late_rows=seen.late_rows,
    )
    if seen.source_version is not None:
        run.tables_in[TRIPS.name] = seen.source_version
    run.wrote(RETURN_TRIPS_LIVE)
    _print_summary(run, seen)
    return {
        "batches": seen.batches,
        "lateness_needed_h": seen.lateness_needed_h(args.lateness),
        "watermark": seen.watermark,
        "state": {
            "rows": seen.state_rows,
            "most_rows": seen.most_state_rows,
            "most_memory_bytes": seen.most_memory_bytes,
            "most_file_bytes": seen.most_file_bytes,
            "rows_per_trip": round(seen.rows_per_trip, 2),
        },
    }


@dataclass
class _Seen:
    """What the batches of this run add up to."""

    batches: int = 0
    trips: int = 0
    too_long: int = 0
    in_future: int = 0
    returns_keyed: int = 0
    pairs: int = 0
    late_rows: int = 0
    most_late: timedelta = timedelta(0)  # of trips of batches of which some were too late
    watermark: str | None = None
    state_rows: int = 0
    most_state_rows: int = 0
    most_memory_bytes: int = 0
    most_file_bytes: int = 0
    source_version: int | None = None

    def add(self, batch: Batch) -> None:
        self.batches += 1
        self.trips += batch.count(TRIPS_SEEN)
        self.too_long += batch.count(TRIPS_SEEN, "too_long")
        self.in_future += batch.count(TRIPS_SEEN, "in_future")
        self.returns_keyed += batch.count(RETURNS_KEYED)
        self.pairs += batch.count(PAIRS_FOUND)
        self.late_rows += batch.late_rows
        early_us = batch.count(TRIPS_SEEN, "early_us")  # 0 where nothing was observed
        if batch.late_rows and batch.watermark and early_us:
            early = datetime.fromtimestamp(early_us / 1e6, UTC)
            behind = datetime.fromisoformat(batch.watermark) - early
            self.most_late = max(self.most_late, behind)
        self.watermark = batch.watermark or self.watermark
        self.state_rows = batch.state_rows
        self.most_state_rows = max(self.most_state_rows, batch.state_rows)
        self.most_memory_bytes = max(self.most_memory_bytes, batch.state_memory_bytes)
        self.most_file_bytes = max(self.most_file_bytes, batch.state_file_bytes)
        self.source_version = batch.source_version

    def lateness_needed_h(self, lateness: timedelta) -> int | None:
        """Whole hours of lateness that would have been enough; None where nothing was late."""
        if not self.late_rows:
            return None
        return math.ceil((lateness + self.most_late) / timedelta(hours=1))

    @property
    def rows_per_trip(self) -> float:
        """Rows with a key that a trip makes: one as outbound trip, the others as return trip."""
        return 1 + self.returns_keyed / self.trips if self.trips else 0.0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _rules(args: argparse.Namespace) -> dict[str, str]:
    return {
        **pair_rules(args),
        MAX_DURATION_S: seconds_of(args.max_duration),
        LATENESS_S: seconds_of(args.lateness),
    }


def _checkpoint(run: Run, rules: Mapping[str, str]) -> str:
    """Where this run's checkpoint lies, with the table that belongs to it.

    Raises UsageError where table, checkpoint and rules do not belong together.
    """
    lake, table = run.lake, RETURN_TRIPS_LIVE
    if run.args.again:
        # The checkpoint first: killed in between, pairs without a checkpoint are refused.
        lake.folder.remove_checkpoints(_CHECKPOINTS)
        if lake.exists(table):
            lake.replace(table, frame_of(run.spark, [], table.struct), "true")
            lake.set_properties(table, {**rules, STREAM: uuid.uuid4().hex})
    if not lake.exists(table):
        if lake.folder.has_checkpoint(_CHECKPOINTS):
            raise UsageError(
                f"{table.name} is gone from {lake.path(table)}, but not its checkpoint: {_AGAIN}"
            )
        lake.create(table, {**rules, STREAM: uuid.uuid4().hex})
    properties = lake.properties(table)
    stored = {k: properties.get(k, "") for k in rules}
    if stored != rules:
        raise UsageError(
            f"{table.name} holds pairs of {_said(stored)}; this run asks for {_said(rules)}: "
            f"ask for the same, or {_AGAIN}"
        )
    own = f"{_CHECKPOINTS}/{properties.get(STREAM, '')}"
    if not lake.folder.has_checkpoint(own) and not lake.read(table).isEmpty():
        raise UsageError(
            f"{table.name} holds pairs, but their checkpoint {lake.folder.checkpoint(own)} is "
            f"gone: {_AGAIN}"
        )
    return lake.folder.checkpoint(own)


def _said(rules: Mapping[str, str]) -> str:
    return (
        f"radii {rules[RADII]} m, window {rules[WINDOW_S]} s, longest return trip "
        f"{rules[MAX_DURATION_S]} s, lateness {rules[LATENESS_S]} s"
    )


def _explained(error: StreamingQueryException) -> Exception:
    """The error, as one that says what to do where the source was rewritten under the stream."""
    sign = next((s for s in _REWRITTEN if s in str(error)), None)
    if sign is None:
        return error
    return UsageError(
        f"{TRIPS.name} was rewritten where the stream had read it, as when a file is ingested "
        f"again or an ingestion that was cut off is completed, or its log does not reach back that "
        f"far ({sign}): {_AGAIN}"
    )


def _log_batch(b: Batch) -> None:
    late = f", {b.late_rows:,} rows too late" if b.late_rows else ""
    log(
        f"{JOB}: batch {b.number}: {b.count(TRIPS_SEEN):,} trips, {b.count(PAIRS_FOUND):,} pairs"
        f"{late}, watermark {b.watermark or '-'}, state {b.state_rows:,} rows, "
        f"{_mb(b.state_memory_bytes)} of memory and {_mb(b.state_file_bytes)} of files, "
        f"{b.seconds:.1f} s"
    )


def _print_summary(run: Run, seen: _Seen) -> None:
    args = run.args
    kept = _hours(args.window + args.max_duration + args.lateness)
    print(f"\n{seen.trips:,} trips in {seen.batches:,} batches gave {seen.pairs:,} pairs")
    if seen.too_long:
        print(f"{seen.too_long:,} trips took {_hours(args.max_duration)} or longer: no returns")
    if seen.in_future:
        print(f"{seen.in_future:,} trips end more than a day from now and were left out")
    if seen.late_rows:
        about = seen.late_rows / max(seen.rows_per_trip, 1.0)
        print(
            f"{seen.late_rows:,} rows, of about {about:,.0f} trips, came more than "
            f"{_hours(args.lateness)} late and were left out: --again with --lateness "
            f"{seen.lateness_needed_h(args.lateness)}h takes nearly all of them along, and a "
            "shorter --max-duration keeps the state small all the same"
        )
    print(
        f"largest state {seen.most_state_rows:,} rows, {_mb(seen.most_memory_bytes)} of memory, "
        f"{_mb(seen.most_file_bytes)} of files"
    )
    print(
        f"a trip makes {seen.rows_per_trip:.1f} rows: 1 as outbound trip, kept for {kept}, the "
        f"others as return trip, kept for {_hours(args.lateness)}\n"
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _hours(length: timedelta) -> str:
    return f"{length.total_seconds() / 3600:g} h"


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

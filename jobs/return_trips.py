"""silver.trips becomes gold.return_trips and gold.return_trip_stats."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arguments import duration, moment, radii_m
from jobs.run import Run, log, parser, run_job
from pipelines.errors import UsageError
from pipelines.trips.layouts import checked_timezone
from pipelines.trips.return_trips import (
    METHODS,
    RADII_M,
    WINDOW,
    find_return_trips,
    micros,
    sides,
)
from pipelines.trips.return_trips.estimate import NAIVE_LIMIT, Estimate, estimate
from pipelines.trips.return_trips.stats import hourly_stats
from schemas import RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS

JOB = "return_trips"

# Properties of gold.return_trips: the rules under which every pair in it was found.
RADII, WINDOW_S, MATCH = "roundtrip.radii_m", "roundtrip.window_s", "roundtrip.match"
# Set while the whole table is being rewritten under other rules: until that is done, its rows and
# its rules may not belong together.
REWRITING = "roundtrip.rewriting"


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Find the return trips among the trips of a lake.",
        "  spark-submit jobs/return_trips.py --lake lake --start 2015-12-01 --end 2015-12-02\n"
        "  writes the return trips of the trips that ended on 1 December 2015, New York time;\n"
        "  trips that go back are looked for up to 8 h later; all other days stay as they are",
    )
    made.add_argument(
        "--radii-m",
        type=radii_m,
        default=RADII_M,
        metavar="R,R,...",
        help="radii in whole metres (default 50,100,150,200)",
    )
    made.add_argument(
        "--window",
        type=duration,
        default=WINDOW,
        metavar="TIME",
        help="a return begins sooner than this after the drop-off (default 8h)",
    )
    made.add_argument(
        "--method",
        choices=sorted(METHODS),
        default="bucketed",
        help="how pairs are found; all methods find the same (default bucketed)",
    )
    made.add_argument(
        "--start",
        metavar="TIME",
        help="only trips that ended at this time or later; a date is midnight (default: all)",
    )
    made.add_argument(
        "--end", metavar="TIME", help="only trips that ended before this time (default: all)"
    )
    made.add_argument(
        "--timezone",
        default="America/New_York",
        metavar="ZONE",
        help="zone of --start, --end and the hours of the statistics (default America/New_York)",
    )
    made.add_argument(
        "--dry-run", action="store_true", help="print what the join would cost, and stop"
    )
    made.add_argument(
        "--force", action="store_true", help="run the naive method however large the input"
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    args = run.args
    checked_timezone(args.timezone)
    start, end = (moment(x, args.timezone) if x else None for x in (args.start, args.end))
    if start and end and start >= end:
        raise UsageError(f"--start {args.start} is not before --end {args.end}")
    rules = _rules(args)
    _check_rules(run, rules, whole=not (start or end))
    trips = run.read(TRIPS)
    with run.step("estimate"):
        outbound, inbound = sides(trips, window=args.window, start=start, end=end)
        expected = estimate(
            outbound,
            inbound,
            method=args.method,
            radius_m=float(max(args.radii_m)),
            window_us=micros(args.window),
            cores=run.spark.sparkContext.defaultParallelism,
        )
    _print_estimate(expected)
    run.rows.update(outbound_read=expected.outbound_trips, inbound_read=expected.inbound_trips)
    if args.dry_run:
        return {"dry_run": True, "estimate": asdict(expected)}
    if args.method == "naive" and expected.candidates > NAIVE_LIMIT and not args.force:
        raise UsageError(
            f"--method naive would make {expected.candidates:,} comparisons, more than "
            f"{NAIVE_LIMIT:,}: use --method bucketed, a shorter --start to --end, or --force"
        )
    with run.step("join and write"):
        pairs = find_return_trips(
            trips,
            radii_m=args.radii_m,
            window=args.window,
            method=args.method,
            start=start,
            end=end,
        )
        _write_pairs(run, pairs, rules, start, end)
    with run.step("statistics"):
        hours = _write_stats(run, trips, start, end)
    by_radius = _print_summary(run, hours, start, end)
    run.wrote(RETURN_TRIPS, RETURN_TRIP_STATS)
    run.rows["pairs_written"] = by_radius[max(args.radii_m)]
    return {"method": args.method, "pairs_by_radius_m": by_radius}


def _rules(args: argparse.Namespace) -> dict[str, str]:
    return {
        RADII: ",".join(map(str, args.radii_m)),
        WINDOW_S: f"{args.window.total_seconds():g}",
        MATCH: "all",
    }


def _check_rules(run: Run, rules: Mapping[str, str], *, whole: bool) -> None:
    """Refuse to put pairs of other rules beside those in the table. Raises UsageError."""
    if whole or not run.lake.exists(RETURN_TRIPS):
        return
    properties = run.lake.properties(RETURN_TRIPS)
    if properties.get(REWRITING):
        raise UsageError(
            f"{RETURN_TRIPS.name} is being rewritten, or a rewrite was cut off: run this job "
            "without --start and --end to write the whole table"
        )
    stored = {k: properties.get(k, "") for k in rules}
    if stored != rules:

        def said(r: Mapping[str, str]) -> str:
            return f"radii {r[RADII]} m, window {r[WINDOW_S]} s, match {r[MATCH]}"

        raise UsageError(
            f"{RETURN_TRIPS.name} holds pairs of {said(stored)}; this run asks for {said(rules)}: "
            "ask for the same, or leave out --start and --end to rewrite the whole table"
        )


def _write_pairs(
    run: Run,
    pairs: DataFrame,
    rules: Mapping[str, str],
    start: datetime | None,
    end: datetime | None,
) -> None:
    run.lake.create(RETURN_TRIPS, rules)
    properties = run.lake.properties(RETURN_TRIPS)
    other = properties.get(REWRITING) or any(properties.get(k) != v for k, v in rules.items())
    if other:  # the check let only a run without an interval come here
        run.lake.set_properties(RETURN_TRIPS, {REWRITING: "true"})
    run.lake.replace(RETURN_TRIPS, pairs, _where("dropoff_at", start, end))
    if other:
        run.lake.set_properties(RETURN_TRIPS, {**rules, REWRITING: ""})


def _write_stats(
    run: Run, trips: DataFrame, start: datetime | None, end: datetime | None
) -> DataFrame:
    """Replace the statistics of every hour that the interval touches, from the whole hours."""
    first = start.replace(minute=0, second=0, microsecond=0) if start else None
    last = -((-end.timestamp()) // 3600) * 3600 if end else None
    after = datetime.fromtimestamp(last, UTC) if last is not None else None
    in_hours = _where("dropoff_at", first, after)
    hours = hourly_stats(
        trips.where(in_hours),
        run.lake.read(RETURN_TRIPS).where(in_hours),
        radii_m=run.args.radii_m,
        timezone=run.args.timezone,
    )
    run.lake.replace(RETURN_TRIP_STATS, hours, _where("hour_at", first, after))
    return run.lake.read(RETURN_TRIP_STATS).where(_where("hour_at", first, after))


def _where(column: str, start: datetime | None, end: datetime | None) -> str:
    """SQL for start <= column < end; the times are ours, so there is nothing to escape."""
    limits = [
        f"{column} {sign} TIMESTAMP '{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}'"
        for sign, at in ((">=", start), ("<", end))
        if at is not None
    ]
    return " AND ".join(limits) or "true"


def _print_estimate(e: Estimate) -> None:
    exactly = "exactly" if e.sampled_share == 1 else f"from 1 trip in {1 / e.sampled_share:.0f}"
    log(f"{JOB}: {e.outbound_trips:,} outbound trips, {e.inbound_trips:,} that may go back")
    log(
        f"{JOB}: {e.exploded_rows:,} rows by key, {e.candidates:,} candidates ({exactly}), "
        f"about {e.seconds:,.0f} s"
    )
    for b in e.largest_buckets:
        log(
            f"{JOB}:   {b.candidates:,} candidates ({b.outbound:,} x {b.inbound:,}) from "
            f"{b.pickup_lat:.4f},{b.pickup_lon:.4f} to {b.dropoff_lat:.4f},{b.dropoff_lon:.4f} "
            "and back"
        )


def _print_summary(
    run: Run, hours: DataFrame, start: datetime | None, end: datetime | None
) -> dict[int, int]:
    """Print counts by radius and seconds by step; return the pairs of the interval by radius."""
    radii = run.args.radii_m
    stored = run.lake.read(RETURN_TRIPS).where(_where("dropoff_at", start, end))
    exact = {r["radius_m"]: r["count"] for r in stored.groupBy("radius_m").count().collect()}
    by_radius = {r: sum(n for m, n in exact.items() if m <= r) for r in radii}
    totals = hours.groupBy("radius_m").agg(
        F.sum("trips").alias("trips"), F.sum("trips_with_return").alias("with_return")
    )
    shares = {r["radius_m"]: r for r in totals.collect()}
    print(f"\n{'closer than':>11} {'pairs':>14} {'trips with a return':>20} {'share':>7}")
    for radius in radii:
        row = shares.get(radius)
        trips, returned = (row["trips"], row["with_return"]) if row else (0, 0)
        share = f"{returned / trips:7.1%}" if trips else f"{'-':>7}"
        print(f"{radius:>9} m {by_radius[radius]:>14,} {returned:>20,} {share}")
    print("\n" + ", ".join(f"{k} {v:.1f} s" for k, v in run.seconds.items()) + "\n")
    return by_radius


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

"""silver.trips becomes gold.return_trips and its statistics, or gold.return_trip_matches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame

from jobs.arguments import add_interval, asked_interval
from jobs.pair_table import HOW, MATCH, PairTable, add_pair_rules, pair_rules
from jobs.quality import load_early
from jobs.return_trips_summary import (
    print_changes,
    print_estimate,
    print_matches,
    print_pairs,
)
from jobs.run import Run, parser, run_job
from jobs.table_checks import add_docs, check_table
from jobs.trip_rules import settle_timezone
from pipelines.errors import UsageError
from pipelines.trips.return_trips import (
    METHODS,
    find_return_trips,
    micros,
    sides,
)
from pipelines.trips.return_trips.choice import AUTO
from pipelines.trips.return_trips.estimate import NAIVE_LIMIT, Estimate, estimate
from pipelines.trips.return_trips.intervals import (
    ALWAYS,
    Interval,
    in_whole_hours,
    spanned,
    sql_within,
    within,
)
from pipelines.trips.return_trips.matches import HOWS, MATCHES, one_each, with_unmatched
from pipelines.trips.return_trips.stats import hourly_stats
from schemas import RETURN_TRIP_MATCHES, RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS

JOB = "return_trips"
ALL = "all"


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Find the return trips among the trips of a lake.",
        "  spark-submit jobs/return_trips.py --lake lake --start 2015-12-01 --end 2015-12-02\n"
        "  writes the return trips of the trips that ended on 1 December 2015, New York time;\n"
        "  trips that go back are looked for up to 8 h later; all other days stay as they are",
    )
    add_pair_rules(made)
    made.add_argument(
        "--method",
        choices=[AUTO, *sorted(METHODS)],
        default=AUTO,
        help="how pairs are found; all methods find the same (default auto: the quickest for this "
        "input of those that are installed)",
    )
    made.add_argument(
        "--match",
        choices=[ALL, *MATCHES],
        default=ALL,
        help=f"all pairs, or for each trip the first or the nearest return alone, into "
        f"{RETURN_TRIP_MATCHES.name} (default all)",
    )
    made.add_argument(
        "--how",
        choices=HOWS,
        help="with --match first or nearest: left keeps trips without a return, with NULL for it "
        "(default inner)",
    )
    made.add_argument(
        "--incremental",
        action="store_true",
        help=f"only what has changed in {TRIPS.name} since the table was last up to date, with "
        "its neighbours in time",
    )
    add_interval(
        made, of="trips that ended", zone_of="--start, --end and the hours of the statistics"
    )
    made.add_argument(
        "--gate",
        action="store_true",
        help=f"first check the trips of the interval, and those that may be their returns, as "
        f"check_quality {TRIPS.name} does; bad ones end it with 3 and leave every pair as it was",
    )
    add_docs(made)
    made.add_argument(
        "--dry-run", action="store_true", help="print what the join would cost, and stop"
    )
    made.add_argument(
        "--force", action="store_true", help="run the naive method however large the input"
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    args = run.args
    _check_arguments(args)
    is_all = args.match == ALL
    run.lake.check(RETURN_TRIPS, RETURN_TRIP_STATS, RETURN_TRIP_MATCHES)
    target = PairTable(run, RETURN_TRIPS if is_all else RETURN_TRIP_MATCHES, _rules(args))
    settle_timezone(run)
    asked = asked_interval(args)
    if args.incremental or asked:
        target.check_rules()
    trips = run.read(TRIPS)
    intervals: Sequence[Interval] = [asked] if asked else ALWAYS
    if args.incremental:
        with run.step("find changes"):
            intervals, why = target.changed(args.window)
        print_changes(intervals, why)
    if not intervals:
        if not args.dry_run:
            target.mark_up_to_date()
        return {"nothing_changed": True}
    quality = check_table(run, TRIPS, spanned(intervals), window=args.window) if args.gate else {}
    with run.step("estimate"):
        expected = _estimate(run, trips, intervals)
    print_estimate(expected)
    run.rows.update(outbound_read=expected.outbound_trips, inbound_read=expected.inbound_trips)
    if args.dry_run:
        return {"dry_run": True, "estimate": asdict(expected)}
    if args.method == "naive" and expected.candidates > NAIVE_LIMIT and not args.force:
        raise UsageError(
            f"--method naive would make {expected.candidates:,} comparisons, more than "
            f"{NAIVE_LIMIT:,}: use --method bucketed, a shorter --start to --end, or --force"
        )
    with run.step("join and write"):
        rows = find_return_trips(
            trips,
            radii_m=args.radii_m,
            window=args.window,
            method=expected.method,
            intervals=intervals,
        )
        if not is_all:
            rows = one_each(rows, args.match)
            if args.how == "left":
                rows = with_unmatched(rows, trips.where(within("dropoff_at", intervals)))
        target.replace(rows, intervals, whole=intervals == ALWAYS)
    fields = (_finish_pairs if is_all else _finish_matches)(run, trips, intervals)
    if not asked:
        target.mark_up_to_date()
    run.wrote(target.table)
    return {"method": expected.method, **fields, **quality}


def _check_arguments(args: argparse.Namespace) -> None:
    """Raises UsageError for arguments that do not go together."""
    if args.incremental and not (args.start is None and args.end is None):
        raise UsageError("--incremental finds its interval by itself: leave out --start and --end")
    if args.how and args.match == ALL:
        raise UsageError(f"--how {args.how} needs --match first or --match nearest")


def _rules(args: argparse.Namespace) -> dict[str, str]:
    return {
        **pair_rules(args),
        MATCH: args.match,
        **({} if args.match == ALL else {HOW: args.how or HOWS[0]}),
    }


def _estimate(run: Run, trips: DataFrame, intervals: Sequence[Interval]) -> Estimate:
    outbound, inbound = sides(trips, window=run.args.window, intervals=intervals)
    return estimate(
        outbound,
        inbound,
        method=run.args.method,
        radius_m=float(max(run.args.radii_m)),
        window_us=micros(run.args.window),
        cores=run.spark.sparkContext.defaultParallelism,
    )


def _finish_pairs(run: Run, trips: DataFrame, intervals: Sequence[Interval]) -> dict[str, Any]:
    """Statistics of the pairs, written and shown; fields for the JSON line."""
    with run.step("statistics"):
        hours = _write_stats(run, trips, intervals)
    by_radius = print_pairs(run, hours, intervals)
    run.wrote(RETURN_TRIP_STATS)
    run.rows["pairs_written"] = by_radius[max(run.args.radii_m)]
    return {"pairs_by_radius_m": by_radius}


def _write_stats(run: Run, trips: DataFrame, intervals: Sequence[Interval]) -> DataFrame:
    """Replace the statistics of every hour that the intervals touch, from the whole hours."""
    hours = in_whole_hours(intervals)
    in_hours = within("dropoff_at", hours)
    stats = hourly_stats(
        trips.where(in_hours),
        run.lake.read(RETURN_TRIPS).where(in_hours),
        radii_m=run.args.radii_m,
        timezone=run.args.timezone,
    )
    run.lake.replace(RETURN_TRIP_STATS, stats, sql_within("hour_at", hours))
    return run.lake.read(RETURN_TRIP_STATS).where(within("hour_at", hours))


def _finish_matches(run: Run, trips: DataFrame, intervals: Sequence[Interval]) -> dict[str, Any]:
    """Matches by radius, shown; fields for the JSON line."""
    by_radius = print_matches(run, intervals)
    matched = by_radius[max(run.args.radii_m)]
    kept = run.rows["outbound_read"] - matched if run.args.how == "left" else 0
    run.rows.update(matches_written=matched, without_return_written=kept)
    return {"match": run.args.match, "matches_by_radius_m": by_radius}


def main(argv: Sequence[str] | None = None) -> int:
    if "--gate" in (sys.argv[1:] if argv is None else argv):
        load_early()
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

"""What jobs/return_trips.py tells: logs while it runs, tables of counts at its end."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.run import Run, log
from pipelines.trips.return_trips.estimate import Estimate
from pipelines.trips.return_trips.intervals import ALWAYS, Interval, within
from schemas import RETURN_TRIP_MATCHES, RETURN_TRIPS

_TO_MINUTES = "%Y-%m-%d %H:%M UTC"


def print_changes(intervals: Sequence[Interval], why: str) -> None:
    """What an incremental run will do, and why."""
    log(f"return_trips: {why}")
    if not intervals:
        log("return_trips: nothing to do")
    for i in intervals:
        if i in ALWAYS:
            log("return_trips:   all trips")
        else:
            span = f"from {i.start:{_TO_MINUTES}} to {i.end:{_TO_MINUTES}}"
            log(f"return_trips:   trips that ended {span}")


def print_estimate(e: Estimate) -> None:
    """The sizes of a join and its largest buckets, before it runs."""
    exactly = "exactly" if e.sampled_share == 1 else f"from 1 trip in {1 / e.sampled_share:.0f}"
    log(f"return_trips: {e.outbound_trips:,} outbound trips, {e.inbound_trips:,} that may go back")
    log(f"return_trips: method {e.method}" + (f": {e.why}" if e.why else ""))
    log(
        f"return_trips: {e.exploded_rows:,} rows by key, {e.candidates:,} candidates ({exactly}), "
        f"about {e.seconds:,.0f} s"
    )
    for b in e.largest_buckets:
        log(
            f"return_trips:   {b.candidates:,} candidates ({b.outbound:,} x {b.inbound:,}) from "
            f"{b.pickup_lat:.4f},{b.pickup_lon:.4f} to {b.dropoff_lat:.4f},{b.dropoff_lon:.4f} "
            "and back"
        )


def print_pairs(run: Run, hours: DataFrame, intervals: Sequence[Interval]) -> dict[int, int]:
    """Print counts by radius and seconds by step; return the pairs of the intervals by radius."""
    radii = run.args.radii_m
    by_radius = _by_radius(
        run.lake.read(RETURN_TRIPS).where(within("dropoff_at", intervals)), radii
    )
    totals = hours.groupBy("radius_m").agg(
        F.sum("trips").alias("trips"), F.sum("trips_with_return").alias("with_return")
    )
    shares = {r["radius_m"]: r for r in totals.collect()}
    print(f"\n{'closer than':>11} {'pairs':>14} {'trips with a return':>20} {'share':>7}")
    for radius in radii:
        row = shares.get(radius)
        trips, returned = (row["trips"], row["with_return"]) if row else (0, 0)
        print(f"{radius:>9} m {by_radius[radius]:>14,} {returned:>20,} {_share(returned, trips)}")
    _print_seconds(run)
    return by_radius


def print_matches(run: Run, intervals: Sequence[Interval]) -> dict[int, int]:
    """Print counts by radius and seconds by step; return the trips with a return by radius."""
    stored = run.lake.read(RETURN_TRIP_MATCHES).where(within("dropoff_at", intervals))
    by_radius = _by_radius(stored, run.args.radii_m)
    print(f"\n{'closer than':>11} {'trips with a return':>20} {'share':>7}")
    for radius, n in by_radius.items():
        print(f"{radius:>9} m {n:>20,} {_share(n, run.rows['outbound_read'])}")
    _print_seconds(run)
    return by_radius


def _by_radius(stored: DataFrame, radii: Sequence[int]) -> dict[int, int]:
    """Rows closer than each radius."""
    exact = {r["radius_m"]: r["count"] for r in stored.groupBy("radius_m").count().collect()}
    return {r: sum(n for m, n in exact.items() if m and m <= r) for r in radii}


def _share(part: int, of: int) -> str:
    return f"{part / of:7.1%}" if of else f"{'-':>7}"


def _print_seconds(run: Run) -> None:
    print("\n" + ", ".join(f"{k} {v:.1f} s" for k, v in run.seconds.items()) + "\n")

"""What takes milliseconds, and what cannot: the line "return trips in 55 milliseconds".

A figure like that is heard about joins of a day or a month of trips. What can be had in such a time
is a plan that nothing has computed yet, or an answer that a job computed before and that a table
holds; finding the pairs is another thing. So here are all of them, side by side on one machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from pyspark.sql import functions as F

from benchmarks.delta_to_delta import optimize, timed
from jobs.lake import Lake
from pipelines.trips.return_trips import RADII_M, find_return_trips
from pipelines.trips.return_trips.stats import hourly_stats
from schemas import RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS

CLAIM_MS = 55


def lookups(lake: Lake, *, joined_s: float, repeats: int = 30) -> dict[str, Any]:
    """Median milliseconds of a plan and of two lookups, each warm, beside the join's seconds.

    `lake` holds silver.trips and clustered gold.return_trips; gold.return_trip_stats is made here.
    Every lookup asks for another trip or day and opens its table anew, as a service would.
    """
    pairs, trips = lake.read(RETURN_TRIPS), lake.read(TRIPS)
    stats = hourly_stats(trips, pairs, radii_m=RADII_M, timezone="America/New_York")
    lake.replace(RETURN_TRIP_STATS, stats, "true")
    optimize(lake, RETURN_TRIP_STATS)
    rows = pairs.select("trip_id", "dropoff_at").distinct().orderBy(F.xxhash64("trip_id"))
    some = rows.limit(repeats + 3).collect()
    days = lake.read(RETURN_TRIP_STATS).select("day").distinct().orderBy("day").collect()

    def plan(_: int) -> None:
        find_return_trips(trips, method="bucketed")

    def one_trip(i: int) -> None:
        trip = some[i % len(some)]
        of_trip = (F.col("trip_id") == trip["trip_id"]) & (F.col("dropoff_at") == trip[1])
        if not lake.read(RETURN_TRIPS).where(of_trip).collect():
            raise RuntimeError(f"no return trip of {trip}")

    def one_day(i: int) -> None:
        day = days[i % len(days)]["day"]
        if not lake.read(RETURN_TRIP_STATS).where(F.col("day") == day).collect():
            raise RuntimeError(f"no statistics of {day}")

    return {
        "trips": trips.count(),
        "pairs": pairs.count(),
        "plan_ms": _median_ms(plan, repeats),
        "one_trip_ms": _median_ms(one_trip, repeats),
        "one_day_ms": _median_ms(one_day, repeats),
        "join_s": round(joined_s, 2),
    }


def text(found: dict[str, Any]) -> str:
    """What the line can mean here, and what it cannot."""
    times = found["join_s"] * 1000 / CLAIM_MS
    return (
        f'"{CLAIM_MS} milliseconds", measured here on {found["trips"]:,} trips with '
        f"{found['pairs']:,} pairs, medians, warm:\n\n"
        f"- {found['plan_ms']:.0f} ms: `find_return_trips` returns a lazy plan; no pair is found\n"
        f"- {found['one_trip_ms']:.0f} ms: the returns of one trip, read from gold.return_trips, "
        "which a job wrote before\n"
        f"- {found['one_day_ms']:.0f} ms: a day's statistics, read from gold.return_trip_stats\n"
        f"- {found['join_s'] * 1000:,.0f} ms: the join itself, from the table of trips to the "
        f"count of pairs (native), {times:,.0f} times {CLAIM_MS} ms\n\n"
        f"A time near {CLAIM_MS} ms can be that of a plan, or of a lookup in a table that is there "
        f"already; it cannot be the time in which the pairs of {found['trips']:,} trips are "
        "found.\n"
    )


def _median_ms(do: Callable[[int], None], repeats: int) -> float:
    for i in range(3):
        do(i)
    each = [timed(lambda i=i: do(i)) for i in range(3, repeats + 3)]  # type: ignore[misc]
    return round(statistics.median(each) * 1000, 1)

"""The picture of return trips: a page and a poster from the gold tables."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.run import Run, parser, run_job
from pipelines.errors import UsageError
from pipelines.files import write_whole
from pipelines.page import number
from pipelines.trips.made.files import PREFIX
from pipelines.trips.page.html import page
from pipelines.trips.page.poster import poster
from pipelines.trips.page.story import DensityMap, Story, headline
from pipelines.trips.picture import by_hour, pixels, starts_of_returns, view_of, waits
from schemas import DELIVERIES, RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS

JOB = "draw_return_trips"

_WAIT_BINS = 48
_CITY_SHARE, _MIDDLE_SHARE = 0.997, 0.9
_CITY_PX, _MIDDLE_PX = (800, 880), (444, 884)


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Draw return trips: where they start, when, and how long they wait.",
        "  spark-submit jobs/draw_return_trips.py --lake lake --out demo\n"
        "  writes demo/return_trips.html, which needs no network, and demo/return_trips.png",
    )
    made.add_argument("--out", required=True, metavar="DIR", help="local folder for the two files")
    return made


def body(run: Run) -> Mapping[str, Any]:
    with run.step("read tables"):
        pairs, stats = run.read(RETURN_TRIPS), run.read(RETURN_TRIP_STATS)
        trips, deliveries = run.read(TRIPS), run.read(DELIVERIES)
        properties = run.lake.properties(RETURN_TRIPS)
        radii, window_s = _asked_for(properties)
    with run.step("count"):
        numbers = _numbers(pairs, stats, radii, window_s)
        days = _days(trips, stats)
        files = sorted(
            {Path(p).name for row in deliveries.select("paths").collect() for p in row[0]}
        )
    with run.step("map"):
        starts = starts_of_returns(trips, pairs).persist(StorageLevel.MEMORY_AND_DISK)
        run.rows["starts"] = starts.count()
        views = view_of(starts, (_CITY_SHARE, _MIDDLE_SHARE), (_CITY_PX, _MIDDLE_PX))
        maps = tuple(
            DensityMap(v, _counts(pixels(starts, v), v.height_px, v.width_px)) for v in views
        )
        starts.unpersist()
    story = Story(
        first_day=days[0],
        last_day=days[1],
        window_s=window_s,
        starts=run.rows["starts"],
        maps=maps,
        files=tuple(files),
        versions=dict(run.tables_in),
        made=any(name.startswith(PREFIX) for name in files),
        **numbers,
    )
    run.rows["trips"], run.rows["pairs"] = story.trips, story.pairs[story.largest_m]
    with run.step("draw"):
        html, image = page(story).encode(), io.BytesIO()
        poster(story, image)
        paths = [Path(run.args.out, name) for name in ("return_trips.html", "return_trips.png")]
        write_whole(paths[0], lambda file: file.write(html))
        write_whole(paths[1], lambda file: file.write(image.getbuffer()))
    print(f"\n{headline(story)}")
    for r in story.radii_m:
        print(f"  within {r} m: {number(story.pairs[r])} pairs")
    for path in paths:
        print(f"  {path}")
    return {
        "files": [str(path) for path in paths],
        "made": story.made,
        "pairs_by_radius_m": {str(r): n for r, n in story.pairs.items()},
    }


def _asked_for(properties: Mapping[str, str]) -> tuple[tuple[int, ...], int]:
    """Radii and window of gold.return_trips, which it carries as properties."""
    try:
        radii = tuple(sorted(int(r) for r in properties["roundtrip.radii_m"].split(",")))
        return radii, int(float(properties["roundtrip.window_s"]))
    except KeyError as e:
        raise UsageError(
            f"{RETURN_TRIPS.name} has no property {e}: write it with jobs/return_trips.py"
        ) from e


def _days(trips: DataFrame, stats: DataFrame) -> tuple[date | None, date | None]:
    """First and last local day of the pickups of the trips that the statistics count."""
    first, last = stats.agg(F.min("hour_at"), F.max("hour_at")).collect()[0]
    if first is None:
        return None, None
    hour = F.date_trunc("hour", "dropoff_at")
    counted = trips.where(hour.between(F.lit(first), F.lit(last)))
    row = counted.agg(F.min("day"), F.max("day")).collect()[0]
    return row[0], row[1]


def _numbers(
    pairs: DataFrame, stats: DataFrame, radii: Sequence[int], window_s: int
) -> dict[str, Any]:
    """The fields of a Story that are counted by radius, cumulative."""
    bin_s = max(1, -(-window_s // _WAIT_BINS))
    bins = {r: np.zeros(-(-window_s // bin_s), dtype=np.int64) for r in radii}
    for row in waits(pairs, bin_s).collect():
        for r in radii:
            if row["radius_m"] <= r:
                bins[r][min(row["bin"], len(bins[r]) - 1)] += row["pairs"]
    hours = {r: [(0, 0)] * 24 for r in radii}
    for row in by_hour(stats).where(F.col("radius_m").isin(list(radii))).collect():
        hours[row["radius_m"]][row["hour"]] = (row["trips"], row["trips_with_return"])
    return {
        "trips": sum(trips for trips, _ in hours[radii[-1]]),
        "pairs": {r: int(b.sum()) for r, b in bins.items()},
        "with_return": {r: sum(some for _, some in h) for r, h in hours.items()},
        "hours": {r: tuple(h) for r, h in hours.items()},
        "bin_s": bin_s,
        "wait_bins": {r: tuple(map(int, b)) for r, b in bins.items()},
    }


def _counts(counted: DataFrame, height_px: int, width_px: int) -> Any:
    """At most one row a pixel becomes an array (height, width)."""
    rows = counted.toPandas()
    counts = np.zeros((height_px, width_px), dtype=np.int64)
    counts[rows["y"].to_numpy(), rows["x"].to_numpy()] = rows["count"].to_numpy()
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

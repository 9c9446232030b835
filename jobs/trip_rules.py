"""What decides whether a delivered row is a trip, as far as a run may choose it: the arguments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from pyspark.sql import functions as F

from jobs.arguments import box, duration
from jobs.lake import Lake
from jobs.run import Run
from pipelines.errors import UsageError
from pipelines.trips.clean import Box, check_time_formats
from pipelines.trips.layouts import Layout, builtin_layouts, read_layout
from schemas import DELIVERIES

NEW_YORK = Box(40, -75, 42, -72)
NEW_YORK_TIME = "America/New_York"
A_DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Rules:
    """The rules that one file's rows are judged by."""

    box: Box
    max_duration_s: float
    timezone: str

    def as_json(self) -> str:
        """As bronze.deliveries records it."""
        return json.dumps({**asdict(self), "box": list(asdict(self.box).values())}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Rules:
        found = json.loads(text)
        return cls(Box(*found["box"]), found["max_duration_s"], found["timezone"])


def add_rules(
    made: argparse.ArgumentParser,
    *,
    box_default: Box | None = None,
    duration_default: timedelta | None = None,
) -> None:
    """--mapping, --timezone, --box and --max-duration; without defaults a file's own rules stay."""
    own = "default: as the file was ingested"
    made.add_argument(
        "--mapping",
        action="append",
        default=[],
        metavar="FILE.toml",
        help="layout of another source, "
        + ("tried before the built-in ones" if box_default else "to judge its files alone")
        + "; may be repeated",
    )
    made.add_argument(
        "--timezone",
        metavar="ZONE",
        help="time zone of the files' clocks"
        + (", over the layout's own" if box_default else f" ({own}, or the mapping's)"),
    )
    made.add_argument(
        "--box",
        type=box,
        default=box_default,
        metavar="MIN_LAT,MIN_LON,MAX_LAT,MAX_LON",
        help="where a trip must begin and end, borders included "
        f"({'default 40,-75,42,-72' if box_default else own})",
    )
    made.add_argument(
        "--max-duration",
        type=duration,
        default=duration_default,
        metavar="TIME",
        help="a trip as long as this or longer is rejected "
        f"({'default 24h' if duration_default else own})",
    )


def settle_timezone(run: Run) -> None:
    """Without --timezone the run's is that of the files that the lake's trips come from.

    It is New York's where no delivery names one. Raises UsageError where they are of several.
    """
    if run.args.timezone is None:
        run.args.timezone = _timezone_of(run.lake)


def _timezone_of(lake: Lake) -> str:
    if not lake.exists(DELIVERIES):
        return NEW_YORK_TIME
    zone = F.get_json_object("rules", "$.timezone").alias("zone")
    rows = lake.read(DELIVERIES).select(zone).where("zone IS NOT NULL").distinct().collect()
    zones = sorted(row.zone for row in rows)
    if len(zones) > 1:
        raise UsageError(
            f"the files of {DELIVERIES.name} are of several time zones, {', '.join(zones)}: say "
            "with --timezone which one the days and hours are of"
        )
    return zones[0] if zones else NEW_YORK_TIME


def layouts_of(run: Run) -> Sequence[Layout]:
    """The layouts that files may have: the run's own first, in the time zone that it names.

    Raises UsageError for a mapping that cannot be used.
    """
    own = [read_layout(path) for path in run.args.mapping]
    for layout in own:
        check_time_formats(run.spark, layout)
    return [x.in_timezone(run.args.timezone) for x in (*own, *builtin_layouts())]

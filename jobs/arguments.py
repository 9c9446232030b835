"""Argument types that several jobs share; each raises argparse's error with an example."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipelines.errors import UsageError
from pipelines.trips.clean import Box
from pipelines.trips.layouts import checked_timezone
from pipelines.trips.return_trips.intervals import Interval

# What SQL and Python both write and read, with room for the days around.
_FIRST_YEAR, _LAST_YEAR = 1001, 9998
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def duration(text: str) -> timedelta:
    """A length of time such as 8h, 90m, 1.5h or 45s."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", text.strip())
    try:
        length = timedelta(seconds=float(match[1]) * _SECONDS[match[2]]) if match else timedelta()
    except OverflowError:
        length = timedelta()
    if not length:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time: write 8h, 90m or 45s")
    return length


def radii_m(text: str) -> tuple[int, ...]:
    """Whole metres, sorted, each once, such as 50,100,150,200."""
    try:
        radii = sorted({int(part) for part in text.split(",")})
    except ValueError:
        radii = []
    if not radii or radii[0] <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} are no radii: write whole metres above 0, such as 50,100,150,200"
        )
    return tuple(radii)


def shares(text: str) -> tuple[float, ...]:
    """Three shares that add up to 1, such as 0.8,0.1,0.1."""
    try:
        parts = tuple(float(part) for part in text.split(","))
    except ValueError:
        parts = ()
    if len(parts) != 3 or min(parts) < 0 or abs(sum(parts) - 1) > 1e-9:
        raise argparse.ArgumentTypeError(
            f"{text!r} are no shares: write three that add up to 1, such as 0.8,0.1,0.1"
        )
    return parts


def box(text: str) -> Box:
    """MIN_LAT,MIN_LON,MAX_LAT,MAX_LON in degrees."""
    try:
        min_lat, min_lon, max_lat, max_lon = map(float, text.split(","))
    except ValueError:
        min_lat, min_lon, max_lat, max_lon = 1.0, 0.0, 0.0, 0.0
    if not (-90 <= min_lat <= max_lat <= 90 and -180 <= min_lon <= max_lon <= 180):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no box: write MIN_LAT,MIN_LON,MAX_LAT,MAX_LON in degrees, such as "
            "40,-75,42,-72 (with a sign in front: --box=-34,150,-33,152)"
        )
    return Box(min_lat, min_lon, max_lat, max_lon)


def moment(text: str, timezone: str) -> datetime:
    """A time in UTC: a bare date is midnight in `timezone`, a time without a zone its wall clock.

    Raises UsageError.
    """
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            at = datetime.combine(date.fromisoformat(text), datetime.min.time())
        else:
            at = datetime.fromisoformat(text)
        if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
            raise ValueError(f"year {at.year}")
        if at.tzinfo is None:
            at = at.replace(tzinfo=ZoneInfo(timezone))
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise UsageError(
            f"{text!r} is no time: write 2015-12-01 or 2015-12-01T08:00 (wall clock of "
            f"{timezone}), or with a zone 2015-12-01T13:00Z"
        ) from e


def add_interval(
    made: argparse.ArgumentParser, *, of: str, zone_of: str = "--start and --end"
) -> None:
    """--start, --end and --timezone, of what `asked_interval` makes an interval.

    Before that `jobs.trip_rules.settle_timezone` is for where no --timezone is given.

    `of` says in the help which rows those are, `zone_of` what the time zone is for.
    """
    made.add_argument(
        "--start",
        metavar="TIME",
        help=f"only {of} at this time or later; a date is midnight (default: all)",
    )
    made.add_argument("--end", metavar="TIME", help=f"only {of} before this time (default: all)")
    made.add_argument(
        "--timezone",
        metavar="ZONE",
        help=f"zone of {zone_of} (default: that of the files the trips come from)",
    )


def asked_interval(args: argparse.Namespace) -> Interval | None:
    """What --start, --end and --timezone ask for; None where neither end is given.

    Raises UsageError.
    """
    if args.timezone is not None:
        checked_timezone(args.timezone)
    start, end = (None if x is None else moment(x, args.timezone) for x in (args.start, args.end))
    if start and end and start >= end:
        raise UsageError(f"--start {args.start} is not before --end {args.end}")
    return Interval(start, end) if start or end else None

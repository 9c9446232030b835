"""Intervals of time, half-open, and which of them a change among the trips touches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_HOUR = timedelta(hours=1)
_HOUR_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Interval:
    """start <= time < end; None is without limit on that side. Times know their zone."""

    start: datetime | None = None
    end: datetime | None = None


ALWAYS = (Interval(),)


def within(column: str, intervals: Sequence[Interval]) -> Column:
    """Whether a timestamp lies in one of the intervals; in none where there are none."""
    return F.expr(sql_within(column, intervals))


def sql_within(column: str, intervals: Sequence[Interval]) -> str:
    """The same as SQL. The times are ours, so there is nothing to escape."""
    return " OR ".join(_sql(column, i) for i in intervals) or "false"


def _sql(column: str, interval: Interval) -> str:
    limits = [
        f"{column} {sign} TIMESTAMP '{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}'"
        for sign, at in ((">=", interval.start), ("<", interval.end))
        if at is not None
    ]
    return f"({' AND '.join(limits)})" if limits else "true"


def prolonged(intervals: Sequence[Interval], by: timedelta) -> list[Interval]:
    """Each interval with its end so much later; those that then meet are one."""
    return merged(Interval(i.start, i.end + by if i.end else None) for i in intervals)


def in_whole_hours(intervals: Sequence[Interval]) -> list[Interval]:
    """The hours (of UTC) that the intervals touch."""
    return merged(
        Interval(
            i.start - (i.start - _EPOCH) % _HOUR if i.start else None,
            i.end + (_EPOCH - i.end) % _HOUR if i.end else None,
        )
        for i in intervals
    )


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times in as few intervals as there can be, in order."""
    found: list[Interval] = []
    for new in sorted(intervals, key=lambda i: (i.start is not None, i.start or _EPOCH)):
        last = found[-1] if found else None
        if last is None or (last.end and new.start and new.start > last.end):
            found.append(new)
        elif last.end and (new.end is None or new.end > last.end):
            found[-1] = Interval(last.start, new.end)
    return found


def spanned(intervals: Sequence[Interval]) -> Interval | None:
    """From the first start to the last end; None where that is all time."""
    found = merged(intervals)
    whole = Interval(found[0].start, found[-1].end)
    return None if whole == Interval() else whole


def touched_by(changed: DataFrame, window_us: int) -> list[Interval]:
    """Whole hours that hold every outbound drop-off whose pairs may change with these trips.

    `changed` has pickup_at and dropoff_at of trips that came or went. Such a trip changes its own
    pairs, and those of the trips that ended less than the window before it began.
    """
    hours = changed.select(
        _hour(F.unix_micros("pickup_at") - (window_us - 1)).alias("first"),
        _hour(F.unix_micros("pickup_at") - 1).alias("last"),
        _hour(F.unix_micros("dropoff_at")).alias("own"),
    ).distinct()
    every = F.array_append(F.sequence("first", "last"), F.col("own"))
    rows = hours.select(F.explode(every).alias("hour")).distinct().collect()
    starts = (_EPOCH + row["hour"] * _HOUR for row in rows)
    return merged(Interval(start, start + _HOUR) for start in starts)


def _hour(at_us: Column) -> Column:
    # Exact before 1970 too: what is divided is a multiple.
    return ((at_us - F.pmod(at_us, F.lit(_HOUR_US))) / _HOUR_US).cast("bigint")

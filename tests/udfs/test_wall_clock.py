"""Wall clocks at both clock changes of the year, hand-checked against New York's of 2015."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.frames import frame_of
from udfs.wall_clock import earlier_reading, is_skipped, later_reading, start_and_end

# In 2015 New York's clocks went from 02:00 EST to 03:00 EDT on 8 March (07:00 UTC) and from
# 02:00 EDT to 01:00 EST on 1 November (06:00 UTC).
NEW_YORK = "America/New_York"


def readings(
    spark: SparkSession, walls: Sequence[tuple[str, str]], zone: str
) -> list[tuple[str, str, bool, bool]]:
    """For each start and end: both in UTC, and whether each was skipped."""
    rows = frame_of(spark, [(i, *w) for i, w in enumerate(walls)], "i INT, s STRING, e STRING")
    rows = rows.withColumns({c: F.col(c).cast("timestamp") for c in "se"})
    early = rows.withColumns({f"{c}1": earlier_reading(F.col(c), zone) for c in "se"})
    both = early.withColumns({f"{c}2": later_reading(F.col(c), F.col(f"{c}1"), zone) for c in "se"})
    found = both.select(
        "i",
        start_and_end(*map(F.col, ("s1", "s2", "e1", "e2"))).alias("pair"),
        *(is_skipped(F.col(c), F.col(f"{c}1"), zone).alias(f"{c}_skipped") for c in "se"),
    ).orderBy("i")
    return [
        (_utc(r["pair"]["start"]), _utc(r["pair"]["end"]), r["s_skipped"], r["e_skipped"])
        for r in found.collect()
    ]


def _utc(at: datetime) -> str:
    return datetime.fromtimestamp(at.timestamp(), UTC).strftime("%m-%d %H:%M")


def test_autumn(spark: SparkSession) -> None:
    cases = [
        # An ordinary day: EST is UTC-5.
        ("2015-12-01 08:00:00", "2015-12-01 08:10:00", ("12-01 13:00", "12-01 13:10")),
        # Both in the hour that comes twice: 10 minutes in either, so the earlier (EDT, UTC-4).
        ("2015-11-01 01:10:00", "2015-11-01 01:20:00", ("11-01 05:10", "11-01 05:20")),
        # Ends "before" it starts: it began in the first 01:50 and ended in the second 01:10.
        ("2015-11-01 01:50:00", "2015-11-01 01:10:00", ("11-01 05:50", "11-01 06:10")),
        # Only the end comes twice: 00:55 EDT to 01:05 is 10 minutes in EDT, 70 in EST.
        ("2015-11-01 00:55:00", "2015-11-01 01:05:00", ("11-01 04:55", "11-01 05:05")),
        # Only the start comes twice: 01:55 EST to 02:05 EST is 10 minutes, from 01:55 EDT 70.
        ("2015-11-01 01:55:00", "2015-11-01 02:05:00", ("11-01 06:55", "11-01 07:05")),
        # No time at all, twice: a tie at zero, so the earlier.
        ("2015-11-01 01:30:00", "2015-11-01 01:30:00", ("11-01 05:30", "11-01 05:30")),
        # Negative whatever the reading: the earlier ones, for the row to be rejected.
        ("2015-11-01 01:30:00", "2015-10-31 23:30:00", ("11-01 05:30", "11-01 03:30")),
        # Just outside of the hour that comes twice.
        ("2015-11-01 00:59:59", "2015-11-01 02:00:00", ("11-01 04:59", "11-01 07:00")),
    ]
    found = readings(spark, [(start, end) for start, end, _ in cases], NEW_YORK)
    assert found == [(*expected, False, False) for *_, expected in cases]


def test_spring_gap_is_shifted_an_hour(spark: SparkSession) -> None:
    # 02:30 was never shown; taken for 03:30 EDT = 07:30 UTC. 03:00 EDT is shown.
    walls = [
        ("2015-03-08 02:30:00", "2015-03-08 02:45:00"),
        ("2015-03-08 01:59:59", "2015-03-08 03:00:00"),
    ]
    assert readings(spark, walls, NEW_YORK) == [
        ("03-08 07:30", "03-08 07:45", True, True),
        ("03-08 06:59", "03-08 07:00", False, False),
    ]


def test_half_hour_change(spark: SparkSession) -> None:
    # Lord Howe's clocks go back half an hour, from 02:00 (+11) to 01:30 (+10:30), on 2015-04-05.
    # 01:45 to 01:40 is 25 minutes across the change: 14:45 to 15:10 UTC of the day before.
    walls = [("2015-04-05 01:45:00", "2015-04-05 01:40:00")]
    assert readings(spark, walls, "Australia/Lord_Howe") == [
        ("04-04 14:45", "04-04 15:10", False, False)
    ]


def test_null_stays_null(spark: SparkSession) -> None:
    null = F.lit(None).cast("timestamp")
    now = F.current_timestamp()
    row = spark.range(1).select(
        start_and_end(null, null, now, now)["start"],
        start_and_end(now, now, null, null)["end"],
        later_reading(null, null, NEW_YORK),
        is_skipped(null, null, NEW_YORK),
    )
    assert tuple(row.collect()[0]) == (None, None, None, None)

"""Wall clocks to UTC, as Spark columns, with both clock changes of the year handled.

A wall-clock time is a TIMESTAMP whose UTC reading shows the clock's face; the session's time zone
must be UTC.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

# Clock changes move clocks by 20 minutes to 3 hours; the offset that holds this long after a time
# is the one that its later reading uses.
_AFTER_CHANGE_US = 3 * 3600 * 1_000_000


def earlier_reading(wall: Column, timezone: str) -> Column:
    """The UTC time at which a clock in `timezone` first showed `wall`.

    In the hour that spring skips, the time is taken an hour later, as most libraries do.
    """
    return F.to_utc_timestamp(wall, timezone)


def later_reading(wall: Column, earlier: Column, timezone: str) -> Column:
    """The UTC time at which a clock in `timezone` last showed `wall`: differs in autumn only.

    `earlier` is the column that holds its earlier reading.
    """
    after = _moved(F.to_utc_timestamp(_moved(wall, _AFTER_CHANGE_US), timezone), -_AFTER_CHANGE_US)
    again = (after > earlier) & (F.from_utc_timestamp(after, timezone) == wall)
    return F.when(again, after).otherwise(earlier)


def is_skipped(wall: Column, earlier: Column, timezone: str) -> Column:
    """True for a time that the clocks of `timezone` never showed: the gap in spring.

    `earlier` is the column that holds its earlier reading.
    """
    return F.from_utc_timestamp(earlier, timezone) != wall


def start_and_end(
    early_start: Column, late_start: Column, early_end: Column, late_end: Column
) -> Column:
    """Struct (start, end) in UTC of something that began and ended at two wall-clock times.

    Each time comes with both its readings. Of the up to four pairs, the shortest that is not
    negative is taken, on a tie the earlier; where all are negative, the earlier readings.
    """

    def pair(start: Column, end: Column) -> Column:
        micros = F.unix_micros(end) - F.unix_micros(start)
        return F.when(
            micros >= 0, F.struct(micros.alias("micros"), start.alias("start"), end.alias("end"))
        )

    shortest = F.least(  # least() orders structs field by field and passes over nulls
        pair(early_start, early_end),
        pair(early_start, late_end),
        pair(late_start, early_end),
        pair(late_start, late_end),
    )
    plain = F.struct(early_start.alias("start"), early_end.alias("end"))
    chosen = F.struct(shortest["start"].alias("start"), shortest["end"].alias("end"))
    ambiguous = (early_start != late_start) | (early_end != late_end)
    return F.when(ambiguous & shortest.isNotNull(), chosen).otherwise(plain)


def _moved(time: Column, by_us: int) -> Column:
    # Plain arithmetic: adding an interval goes through calendar objects, row by row.
    return F.timestamp_micros(F.unix_micros(time) + by_us)

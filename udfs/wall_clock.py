"""Wall clocks to UTC, as Spark columns, with both clock changes of the year handled.

A wall-clock time is a TIMESTAMP whose UTC reading shows the clock's face; the session's time zone
must be UTC.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

# Clock changes move clocks by 20 minutes to 3 hours; the offset that holds this long after a time
# is the one that its later reading uses.
_AFTER_CHANGE = "INTERVAL 3 HOURS"


def earlier_reading(wall: Column, timezone: str) -> Column:
    """The UTC time at which a clock in `timezone` first showed `wall`.

    In the hour that spring skips, the time is taken an hour later, as most libraries do.
    """
    return F.to_utc_timestamp(wall, timezone)


def later_reading(wall: Column, timezone: str) -> Column:
    """The UTC time at which a clock in `timezone` last showed `wall`: differs in autumn only."""
    after = F.to_utc_timestamp(wall + F.expr(_AFTER_CHANGE), timezone) - F.expr(_AFTER_CHANGE)
    return F.when(F.from_utc_timestamp(after, timezone) == wall, after).otherwise(
        earlier_reading(wall, timezone)
    )


def is_skipped(wall: Column, timezone: str) -> Column:
    """True for a time that the clocks of `timezone` never showed: the gap in spring."""
    return F.from_utc_timestamp(earlier_reading(wall, timezone), timezone) != wall


def start_and_end(start_wall: Column, end_wall: Column, timezone: str) -> Column:
    """Struct (start, end) in UTC of something that began and ended at two wall-clock times.

    Each time may have two readings in autumn. Of the up to four pairs, the shortest that is not
    negative is taken, on a tie the earlier; where all are negative, the earlier readings.
    """
    early_start = earlier_reading(start_wall, timezone)
    late_start = later_reading(start_wall, timezone)
    early_end = earlier_reading(end_wall, timezone)
    late_end = later_reading(end_wall, timezone)

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
    ambiguous = (early_start != late_start) | (early_end != late_end)
    plain = F.struct(early_start.alias("start"), early_end.alias("end"))
    chosen = F.struct(shortest["start"].alias("start"), shortest["end"].alias("end"))
    return F.when(ambiguous & shortest.isNotNull(), chosen).otherwise(plain)

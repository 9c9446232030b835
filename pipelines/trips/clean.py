"""Rows as delivered become trips, or rejected rows with every reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import and_, or_

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.trips.layouts import (
    DEGREES_PER_UNIT,
    MILES_PER_UNIT,
    NUMBERS,
    REQUIRED,
    TEXTS,
    Layout,
    Recognised,
)
from pipelines.trips.rows import WHOLE_LINE
from schemas import TRIPS, TRIPS_REJECTED
from udfs.wall_clock import earlier_reading, is_skipped, later_reading, start_and_end

# ISO 8601 as far as files use it. Spark's own cast would also take "2015" or "12:30" for a time,
# and "12:30 EST" for an instant.
_ZONE = r"(Z|[+-]\d{2}(:?\d{2})?)$"
_TIME = (
    r"^\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{1,2}(:\d{1,2}(\.\d*)?)?( ?"
    + _ZONE.removesuffix("$")
    + ")?$"
)
_TIMES = ("pickup_at", "dropoff_at")
_POINTS = tuple(c for c in REQUIRED if c not in _TIMES)
_MICROS_PER_S = 1_000_000


@dataclass(frozen=True)
class Box:
    """The area, borders included, in which a trip must begin and end, in degrees."""

    min_lat: float
    min_lon: float
    max_lat: float
    max_lon: float

    def holds(self, lat: Column, lon: Column) -> Column:
        return lat.between(self.min_lat, self.max_lat) & lon.between(self.min_lon, self.max_lon)


def classify(
    raw: DataFrame, recognised: Recognised, *, box: Box, max_duration_s: float
) -> DataFrame:
    """Each row of bronze.trips_raw parsed and judged.

    Columns: those of silver.trips; `reasons`, NULL for a trip and sorted otherwise; `fields`, NULL
    for a trip; `unparsable`, the optional columns whose text made no value, NULL where none;
    `shifted`, whether a time was in the hour that spring skips. Rows with reasons may have NULL in
    any column of a trip.
    """
    layout = recognised.layout
    source = dict(recognised.source)
    numbers = [c for c in NUMBERS if c in source]
    # Step by step, so that Spark computes once what the next step uses more than once; and a step
    # at most is too long for Java to compile, see `_reasons`.
    texts = raw.select(
        "file_id",
        "source_row",
        "fields",
        *(
            F.trim(F.element_at("fields", F.lit(name))).alias(f"{column}_text")
            for column, name in source.items()
        ),
    )
    parsed = texts.withColumns(
        {
            **{c: _scaled(c, DEGREES_PER_UNIT[layout.coordinates_unit]) for c in _POINTS},
            **{f"{c}_wall": _time(F.col(f"{c}_text"), layout) for c in _TIMES},
            **{f"{c}_zoned": _is_zoned(F.col(f"{c}_text"), layout) for c in _TIMES},
            **{c: _number(c, layout) for c in numbers},
            **{c: F.lit(None).cast(TRIPS.struct[c].dataType) for c in NUMBERS if c not in source},
            **{c: _text(c) if c in source else F.lit(None).cast("string") for c in TEXTS},
        }
    )
    timed = _in_utc(parsed, layout.timezone)
    judged = timed.withColumns(
        {
            "sound": F.coalesce(_is_sound(box, max_duration_s), F.lit(False)),
            "has_unparsable": reduce(or_, map(_is_unparsable, numbers), F.lit(False)),
            "service": F.coalesce("service", F.lit(recognised.service)),
            "day": F.to_date(F.from_utc_timestamp("pickup_at", layout.timezone)),
        }
    )
    unparsable = F.array_compact(F.array(*(F.when(_is_unparsable(c), F.lit(c)) for c in numbers)))
    return judged.select(
        F.xxhash64("file_id", "source_row").alias("trip_id"),
        *(c.name for c in TRIPS.columns if c.name != "trip_id"),
        F.when(~F.col("sound"), _reasons(box, max_duration_s)).alias("reasons"),
        F.when(~F.col("sound"), F.col("fields")).alias("fields"),
        F.when(F.col("has_unparsable"), unparsable).alias("unparsable"),
        "shifted",
    )


def trips_of(classified: DataFrame) -> DataFrame:
    """Rows of silver.trips among `classify`'s."""
    return classified.where(F.col("reasons").isNull()).select(*(c.name for c in TRIPS.columns))


def rejected_of(classified: DataFrame) -> DataFrame:
    """Rows of silver.trips_rejected among `classify`'s."""
    return classified.where(F.col("reasons").isNotNull()).select(
        *(c.name for c in TRIPS_REJECTED.columns)
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one file's rows, or of several files': outcomes add up.

    `rows` is the number of rows that there should be, going by the numbers that they carry: those
    of a file count from 0. `reasons` and `unparsable` count rejected rows by reason, and accepted
    rows by column; `days` counts accepted rows by the day of the pickup, as in 2015-12-01.
    """

    rows: int = 0
    read: int = 0
    accepted: int = 0
    rejected: int = 0
    shifted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unparsable: Counter[str] = field(default_factory=Counter)
    days: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.rows + other.rows,
            self.read + other.read,
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            self.shifted + other.shifted,
            self.reasons + other.reasons,
            self.unparsable + other.unparsable,
            self.days + other.days,
        )


def outcomes(classified: DataFrame) -> dict[str, Outcome]:
    """What became of the rows of each file, by `file_id`. One pass over `classify`'s rows.

    Files without a data row are not in it.
    """
    day = F.when(F.col("reasons").isNull(), F.col("day").cast("string")).alias("day")
    kinds = classified.groupBy("file_id", "reasons", "unparsable", day).agg(
        F.count(F.lit(1)).alias("count"),
        F.count_if("shifted").alias("shifted"),
        F.max("source_row").alias("last"),
    )
    found: dict[str, Outcome] = {}
    last: dict[str, int] = {}
    for file_id, reasons, unparsable, of_day, count, shifted, last_row in kinds.collect():
        if reasons is None:
            empty = Counter(dict.fromkeys(unparsable or (), count))
            of = Outcome(
                read=count,
                accepted=count,
                shifted=shifted,
                unparsable=empty,
                days=Counter({of_day: count}),
            )
        else:
            why = Counter(dict.fromkeys(reasons, count))
            of = Outcome(read=count, rejected=count, reasons=why)
        found[file_id] = found.get(file_id, Outcome()) + of
        last[file_id] = max(last.get(file_id, 0), last_row)
    return {i: replace(of, rows=last[i] + 1) for i, of in found.items()}


def check_time_formats(spark: SparkSession, layout: Layout) -> None:
    """Raises UsageError for a time pattern that Spark does not take."""
    for time_format in layout.time_formats:
        try:
            text = F.date_format(F.current_timestamp(), time_format)
            spark.range(1).select(F.try_to_timestamp(text, F.lit(time_format))).collect()
        except PySparkException as e:
            raise UsageError(
                f"mapping {layout.name}: [times] {time_format!r} is no pattern of Spark's, such "
                f"as 'dd/MM/yyyy HH:mm:ss': {str(e).splitlines()[0]}"
            ) from e


def _text(column: str) -> Column:
    text = F.col(f"{column}_text")
    return F.when(text != "", text)


def _scaled(column: str, factor: float) -> Column:
    value = F.col(f"{column}_text").try_cast("double")
    return value if factor == 1.0 else value * factor


def _number(column: str, layout: Layout) -> Column:
    if column == "passengers":  # "1" or, from programs that know only fractions, "1.0"
        value = _scaled(column, 1.0)
        return F.when(value == F.floor(value), value.try_cast("int"))
    value = _scaled(column, MILES_PER_UNIT[layout.distance_unit] if column == "distance_mi" else 1)
    return F.when(_is_finite(value), value)


def _is_unparsable(column: str) -> Column:
    return F.col(column).isNull() & (F.coalesce(f"{column}_text", F.lit("")) != "")


def _is_finite(value: Column) -> Column:
    return ~F.isnan(value) & (F.abs(value) != float("inf"))


def _time(text: Column, layout: Layout) -> Column:
    """Wall clock as a TIMESTAMP under a UTC session; NULL where the text is no time."""
    if layout.time_formats:
        return F.coalesce(*(F.try_to_timestamp(text, F.lit(f)) for f in layout.time_formats))
    return F.when(text.rlike(_TIME), text.try_cast("timestamp"))


def _is_zoned(text: Column, layout: Layout) -> Column:
    """Whether a time carries a zone of its own and so is an instant, not a wall clock."""
    if layout.time_formats:
        return F.lit(layout.times_have_zone)
    return text.rlike(_ZONE)


def _in_utc(parsed: DataFrame, timezone: str) -> DataFrame:
    """pickup_at and dropoff_at in UTC, and whether a time was shifted out of the spring gap."""

    def early(column: str) -> Column:
        wall = F.col(f"{column}_wall")
        return F.when(F.col(f"{column}_zoned"), wall).otherwise(earlier_reading(wall, timezone))

    def late(column: str) -> Column:
        earlier = F.col(f"{column}_early")
        later = later_reading(F.col(f"{column}_wall"), earlier, timezone)
        return F.when(F.col(f"{column}_zoned"), earlier).otherwise(later)

    def skipped(column: str) -> Column:
        skips = is_skipped(F.col(f"{column}_wall"), F.col(f"{column}_early"), timezone)
        return F.coalesce(~F.col(f"{column}_zoned") & skips, F.lit(False))

    pair = start_and_end(*(F.col(f"{c}_{r}") for c in _TIMES for r in ("early", "late")))
    return (
        parsed.withColumns({f"{c}_early": early(c) for c in _TIMES})
        .withColumns(
            {
                **{f"{c}_late": late(c) for c in _TIMES},
                "shifted": reduce(or_, map(skipped, _TIMES)),
            }
        )
        .withColumn("pair", pair)
        .withColumns({"pickup_at": F.col("pair.start"), "dropoff_at": F.col("pair.end")})
    )


def _lasted_us() -> Column:
    return F.unix_micros("dropoff_at") - F.unix_micros("pickup_at")


def _is_sound(box: Box, max_duration_s: float) -> Column:
    """Whether a row is a trip, in as few tests as that takes; NULL counts as no.

    A row is not sound exactly when `_reasons` finds a reason.
    """
    lasted_us = _lasted_us()
    return reduce(
        and_,
        (
            ~F.map_contains_key("fields", F.lit(WHOLE_LINE)),
            *(F.col(c) != 0 for c in _POINTS),
            box.holds(F.col("pickup_lat"), F.col("pickup_lon")),
            box.holds(F.col("dropoff_lat"), F.col("dropoff_lon")),
            lasted_us >= 0,
            lasted_us < round(max_duration_s * _MICROS_PER_S),
        ),
    )


def _reasons(box: Box, max_duration_s: float) -> Column:
    """Every reason why a row is no trip, sorted.

    Long code, longer than what Java's compiler takes on: evaluate it for rows that are not sound.
    """
    faults = _faults(box, max_duration_s)
    found = F.array(*(F.when(is_so, F.lit(name)) for name, is_so in faults.items()))
    return F.array_sort(F.array_compact(found))


def known_reasons() -> tuple[str, ...]:
    """Every reason for which a row may be rejected. Needs a session, as any column does."""
    return tuple(sorted(_faults(Box(-90, -180, 90, 180), 0)))


def _faults(box: Box, max_duration_s: float) -> Mapping[str, Column]:
    """Name of each reason and when it holds; NULL counts as no."""
    line = F.element_at("fields", F.lit(WHOLE_LINE))
    open_quote = F.regexp_count(line, F.lit('"')) % 2 == 1
    faults: dict[str, Column] = {
        "unclosed_quote": open_quote,
        "too_many_fields": line.isNotNull() & ~open_quote,
    }
    for column in REQUIRED:
        missing = F.coalesce(f"{column}_text", F.lit("")) == ""
        value = F.col(f"{column}_wall" if column in _TIMES else column)
        faults[f"missing_{column}"] = missing
        faults[f"unparsable_{column}"] = ~missing & value.isNull()
    for end in ("pickup", "dropoff"):
        lat, lon = F.col(f"{end}_lat"), F.col(f"{end}_lon")
        faults[f"non_finite_{end}_lat"] = ~_is_finite(lat)
        faults[f"non_finite_{end}_lon"] = ~_is_finite(lon)
        zero = (lat == 0) | (lon == 0)
        faults[f"zero_{end}"] = zero
        faults[f"{end}_outside_box"] = (
            ~zero & _is_finite(lat) & _is_finite(lon) & ~box.holds(lat, lon)
        )
    lasted_us = _lasted_us()
    faults["dropoff_before_pickup"] = lasted_us < 0
    faults["too_long"] = lasted_us >= round(max_duration_s * _MICROS_PER_S)
    return faults

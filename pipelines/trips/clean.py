"""Rows as delivered become trips, or rejected rows with every reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.trips.layouts import (
    DEGREES_PER_UNIT,
    MILES_PER_UNIT,
    NUMBERS,
    TEXTS,
    Layout,
    Recognised,
)
from pipelines.trips.sources import WHOLE_LINE
from schemas import TRIPS, TRIPS_REJECTED
from udfs.wall_clock import is_skipped, start_and_end

# ISO 8601 as far as files use it; Spark's own cast would also take "2015" or "12:30" for a time.
_TIME = r"^\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{1,2}"
_HAS_ZONE = r"(Z|[+-]\d{2}(:?\d{2})?)$"
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

    def text(column: str) -> Column:
        value = F.trim(F.element_at("fields", F.lit(source[column])))
        return F.when(value != "", value)

    degrees = DEGREES_PER_UNIT[layout.coordinates_unit]
    points = ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")
    texts = raw.select(
        "file_id",
        "source_row",
        "fields",
        *(text(c).alias(f"{c}_text") for c in ("pickup_at", "dropoff_at", *points)),
        *(text(c).alias(f"{c}_text") for c in NUMBERS if c in source),
        *((text(c) if c in source else F.lit(None).cast("string")).alias(c) for c in TEXTS),
    )
    parsed = texts.withColumns(
        {
            **{c: _scaled(F.col(f"{c}_text"), degrees) for c in points},
            **{f"{c}_wall": _time(F.col(f"{c}_text"), layout) for c in ("pickup_at", "dropoff_at")},
            **{c: _number(c, c in source, layout) for c in NUMBERS},
            "service": F.coalesce("service", F.lit(recognised.service)),
        }
    )
    timed = _in_utc(parsed, layout.timezone)
    faults = _faults(box, max_duration_s)
    reasons = F.array_sort(
        F.array_compact(F.array(*(F.when(is_so, F.lit(name)) for name, is_so in faults.items())))
    )
    # The whole list of reasons is made for the few rows that need it.
    sound = reduce(and_, (~F.coalesce(is_so, F.lit(False)) for is_so in faults.values()))
    unparsable = F.array_compact(
        F.array(
            *(
                F.when(F.col(f"{c}_text").isNotNull() & F.col(c).isNull(), F.lit(c))
                for c in NUMBERS
                if c in source
            )
        )
    )
    judged = timed.withColumn("sound", sound)
    return judged.select(
        F.xxhash64("file_id", "source_row").alias("trip_id"),
        *(c.name for c in TRIPS.columns if c.name not in ("trip_id", "day")),
        F.to_date(F.from_utc_timestamp("pickup_at", layout.timezone)).alias("day"),
        F.when(~F.col("sound"), reasons).alias("reasons"),
        F.when(~F.col("sound"), F.col("fields")).alias("fields"),
        F.when(F.size(unparsable) > 0, unparsable).alias("unparsable"),
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


def _number(column: str, present: bool, layout: Layout) -> Column:
    kind = "int" if column == "passengers" else "double"
    if not present:
        return F.lit(None).cast(kind)
    text = F.col(f"{column}_text")
    if column == "passengers":  # "1" or, from programs that know only fractions, "1.0"
        value = text.try_cast("double")
        return F.when(value == F.floor(value), value.try_cast("int"))
    scale = MILES_PER_UNIT[layout.distance_unit] if column == "distance_mi" else 1.0
    value = _scaled(text, scale)
    return F.when(_finite(value), value)


def _scaled(text: Column, factor: float) -> Column:
    value = text.try_cast("double")
    return value if factor == 1.0 else value * factor


def _finite(value: Column) -> Column:
    return ~F.isnan(value) & (F.abs(value) != float("inf"))


def _time(text: Column, layout: Layout) -> Column:
    """Wall clock as a TIMESTAMP under a UTC session; NULL where the text is no time."""
    if layout.time_formats:
        return F.coalesce(*(F.try_to_timestamp(text, F.lit(f)) for f in layout.time_formats))
    return F.when(text.rlike(_TIME), text.try_cast("timestamp"))


def _in_utc(parsed: DataFrame, timezone: str) -> DataFrame:
    """pickup_at and dropoff_at in UTC, and whether a time was shifted out of the spring gap."""
    start, end = F.col("pickup_at_wall"), F.col("dropoff_at_wall")
    zoned = F.col("pickup_at_text").rlike(_HAS_ZONE)  # both ends of a file are written alike
    pair = F.when(zoned, F.struct(start.alias("start"), end.alias("end"))).otherwise(
        start_and_end(start, end, timezone)
    )
    return (
        parsed.withColumn("pair", pair)
        .withColumn("pickup_at", F.col("pair.start"))
        .withColumn("dropoff_at", F.col("pair.end"))
        .withColumn(
            "shifted",
            ~zoned
            & F.coalesce(is_skipped(start, timezone) | is_skipped(end, timezone), F.lit(False)),
        )
    )


def _faults(box: Box, max_duration_s: float) -> Mapping[str, Column]:
    """Name of each reason and when it holds; NULL counts as no."""
    faults: dict[str, Column] = {
        "too_many_fields": F.map_contains_key("fields", F.lit(WHOLE_LINE)),
    }
    for column in ("pickup_at", "dropoff_at"):
        text, wall = F.col(f"{column}_text"), F.col(f"{column}_wall")
        faults[f"missing_{column}"] = text.isNull()
        faults[f"unparsable_{column}"] = text.isNotNull() & wall.isNull()
    for end in ("pickup", "dropoff"):
        lat, lon = F.col(f"{end}_lat"), F.col(f"{end}_lon")
        for column, value in ((f"{end}_lat", lat), (f"{end}_lon", lon)):
            text = F.col(f"{column}_text")
            faults[f"missing_{column}"] = text.isNull()
            faults[f"unparsable_{column}"] = text.isNotNull() & value.isNull()
            faults[f"non_finite_{column}"] = ~_finite(value)
        zero = (lat == 0) | (lon == 0)
        faults[f"zero_{end}"] = zero
        faults[f"{end}_outside_box"] = ~zero & _finite(lat) & _finite(lon) & ~box.holds(lat, lon)
    lasted_us = F.unix_micros("dropoff_at") - F.unix_micros("pickup_at")
    faults["dropoff_before_pickup"] = lasted_us < 0
    faults["too_long"] = lasted_us >= round(max_duration_s * _MICROS_PER_S)
    return faults

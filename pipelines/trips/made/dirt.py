"""Rows broken on purpose, once for every reason for which ingestion rejects a row.

A made row is text by column here, as a file delivers it. Besides rows to reject there are flaws
that ingestion must bear: optional fields that are no numbers, trailing commas, blank lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import numpy as np

PICKUP_AT, DROPOFF_AT = "tpep_pickup_datetime", "tpep_dropoff_datetime"
_COORDINATES = {
    "pickup_lat": "pickup_latitude",
    "pickup_lon": "pickup_longitude",
    "dropoff_lat": "dropoff_latitude",
    "dropoff_lon": "dropoff_longitude",
}
_LAST = "total_amount"
_NO_NUMBERS = ("n/a", "-", "40°45'", "?")
_NO_TIMES = ("12/01 8am", "2015-12-01", "noon", "2015-13-45 00:00:00")
_ELSEWHERE = (("51.507400", "-0.127800"), ("40.750000", "-71.500000"), ("-40.750000", "73.980000"))
_OPTIONAL = ("passenger_count", "trip_distance", "fare_amount", "tip_amount", "tolls_amount")

Row = dict[str, str]
Change = Callable[[Row, np.random.Generator], None]


def _put(column: str, *texts: str) -> Change:
    """Write one of the texts into the column."""

    def change(row: Row, rng: np.random.Generator) -> None:
        row[column] = texts[rng.integers(len(texts))]

    return change


def _zero(end: str) -> Change:
    def change(row: Row, rng: np.random.Generator) -> None:
        columns = (f"{end}_latitude", f"{end}_longitude")
        for column in (columns[:1], columns[1:], columns)[rng.integers(3)]:
            row[column] = "0"

    return change


def _outside(end: str) -> Change:
    def change(row: Row, rng: np.random.Generator) -> None:
        lat, lon = _ELSEWHERE[rng.integers(len(_ELSEWHERE))]
        row[f"{end}_latitude"], row[f"{end}_longitude"] = lat, lon

    return change


def _lasting(low_h: float, high_h: float) -> Change:
    """End the trip so many hours after its start, on the clock."""

    def change(row: Row, rng: np.random.Generator) -> None:
        start = datetime.fromisoformat(row[PICKUP_AT])
        lasted = timedelta(seconds=round(rng.uniform(low_h, high_h) * 3600))
        row[DROPOFF_AT] = str(start + lasted)

    return change


def _too_many_fields(row: Row, rng: np.random.Generator) -> None:
    row[_LAST] += ",1,N"


_TYPED: dict[str, Change] = {
    "missing_pickup_at": _put(PICKUP_AT, ""),
    "missing_dropoff_at": _put(DROPOFF_AT, ""),
    **{f"missing_{ours}": _put(column, "") for ours, column in _COORDINATES.items()},
    **{
        f"non_finite_{ours}": _put(column, "NaN", "Infinity", "-Infinity")
        for ours, column in _COORDINATES.items()
    },
    "zero_pickup": _zero("pickup"),
    "zero_dropoff": _zero("dropoff"),
    "pickup_outside_box": _outside("pickup"),
    "dropoff_outside_box": _outside("dropoff"),
    # By more than an hour, and by more than a day and an hour: clocks change by one.
    "dropoff_before_pickup": _lasting(-6, -1.5),
    "too_long": _lasting(25.5, 72),
}
_TEXT: dict[str, Change] = {
    "too_many_fields": _too_many_fields,
    "unparsable_pickup_at": _put(PICKUP_AT, *_NO_TIMES),
    "unparsable_dropoff_at": _put(DROPOFF_AT, *_NO_TIMES),
    **{f"unparsable_{ours}": _put(column, *_NO_NUMBERS) for ours, column in _COORDINATES.items()},
}

DIRT: Mapping[str, Change] = {**_TYPED, **_TEXT}
"""Each reason in silver.trips_rejected and what gives a row that reason alone."""

TYPED_DIRT: Mapping[str, Change] = _TYPED
"""Those of them that a file with typed columns can hold."""


def _unparsable_optional(row: Row, rng: np.random.Generator) -> None:
    row[_OPTIONAL[rng.integers(len(_OPTIONAL))]] = "n/a"


def _trailing_commas(row: Row, rng: np.random.Generator) -> None:
    row[_LAST] += ",,"


def _blank_line(row: Row, rng: np.random.Generator) -> None:
    row[_LAST] += "\n"


FLAWS: Mapping[str, Change] = {
    "unparsable_optional": _unparsable_optional,
    "trailing_commas": _trailing_commas,
    "blank_line": _blank_line,
}
"""What a row may have and still be a trip; only text can hold it."""


def deal(count: int, kinds: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """`count` kinds in random order, each as often as any other up to one."""
    return [kinds[i] for i in rng.permutation(count) % len(kinds)] if kinds else []

"""Every reason for which a row is no trip, and what becomes of values; hand-checked."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.trips.clean import (
    Box,
    Outcome,
    check_time_formats,
    classify,
    outcomes,
    rejected_of,
    trips_of,
)
from pipelines.trips.layouts import builtin_layouts, parse_layout, recognise
from pipelines.trips.rows import WHOLE_LINE
from schemas import TRIPS, TRIPS_RAW, TRIPS_REJECTED
from schemas.frames import frame_of

NEW_YORK = Box(40, -75, 42, -72)
DAY_S = 24 * 3600
GOOD: dict[str, str | None] = {
    "pickup_datetime": "2015-12-01 08:00:00",
    "dropoff_datetime": "2015-12-01 08:10:00",
    "pickup_longitude": "-73.98",
    "pickup_latitude": "40.75",
    "dropoff_longitude": "-73.97",
    "dropoff_latitude": "40.76",
    "passenger_count": "1",
    "trip_distance": "2.5",
    "fare_amount": "10",
    "payment_type": "CSH",
}


def judged(
    spark: SparkSession,
    rows: list[dict[str, str | None]],
    box: Box = NEW_YORK,
    max_duration_s: float = DAY_S,
    mapping: str | None = None,
) -> DataFrame:
    raw = frame_of(
        spark, [(row, "f" * 64, i, "test") for i, row in enumerate(rows)], TRIPS_RAW.struct
    )
    layouts = [parse_layout(mapping, "test")] if mapping else builtin_layouts()
    header = [name for name in rows[0] if name != WHOLE_LINE]
    return classify(raw, recognise(header, layouts), box=box, max_duration_s=max_duration_s)


def one(spark: SparkSession, **changes: Any) -> dict[str, Any]:
    """The good row with changes, judged."""
    options = {k: changes.pop(k) for k in ("box", "max_duration_s") if k in changes}
    (row,) = judged(spark, [{**GOOD, **changes}], **options).collect()
    return row.asDict()


def utc(at: datetime | None) -> str | None:
    return (
        None
        if at is None
        else datetime.fromtimestamp(at.timestamp(), UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:23]
    )


def test_a_trip(spark: SparkSession) -> None:
    row = one(spark)
    assert (row["reasons"], row["fields"], row["unparsable"], row["shifted"]) == (None,) * 3 + (
        False,
    )
    assert utc(row["pickup_at"]) == "2015-12-01 13:00:00.000"
    assert utc(row["dropoff_at"]) == "2015-12-01 13:10:00.000"
    assert (row["pickup_lat"], row["pickup_lon"]) == (40.75, -73.98)
    assert (row["dropoff_lat"], row["dropoff_lon"]) == (40.76, -73.97)
    assert (row["passengers"], row["distance_mi"], row["fare_usd"]) == (1, 2.5, 10.0)
    assert (row["payment_type"], row["service"], row["vendor"]) == ("CSH", "yellow", None)
    assert row["day"] == date(2015, 12, 1)


POINTS = ("pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude")
OURS = ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")


def all_of(spark: SparkSession, changes: list[dict[str, str | None]]) -> list[dict[str, Any]]:
    """The good row with each of the changes, judged in one go."""
    found = judged(spark, [{**GOOD, **c} for c in changes]).collect()
    return [row.asDict() for row in sorted(found, key=lambda row: row["source_row"])]


def test_every_reason(spark: SparkSession) -> None:
    cases: list[tuple[dict[str, str | None], list[str] | None]] = [
        ({"dropoff_datetime": "2015-12-01 08:00:00"}, None),  # no time at all
        ({"dropoff_datetime": "2015-12-02 07:59:59.999999"}, None),  # 24 h but a microsecond
        ({"pickup_latitude": "40", "pickup_longitude": "-75"}, None),  # borders count
        ({"dropoff_latitude": "42", "dropoff_longitude": "-72"}, None),
        ({"pickup_latitude": " 40.75 ", "pickup_datetime": " 2015-12-01 08:00:00 "}, None),
        ({"pickup_datetime": None}, ["missing_pickup_at"]),
        ({"dropoff_datetime": "  "}, ["missing_dropoff_at"]),
        ({"pickup_datetime": "yesterday"}, ["unparsable_pickup_at"]),
        ({"dropoff_datetime": "2015-13-01 08:10:00"}, ["unparsable_dropoff_at"]),
        ({"pickup_latitude": "0"}, ["zero_pickup"]),
        ({"pickup_longitude": "-0.0"}, ["zero_pickup"]),
        ({"dropoff_latitude": "0.0", "dropoff_longitude": "0"}, ["zero_dropoff"]),
        ({"pickup_latitude": "39.9999"}, ["pickup_outside_box"]),
        ({"dropoff_longitude": "-71.9999"}, ["dropoff_outside_box"]),
        ({"dropoff_datetime": "2015-12-01 07:59:59"}, ["dropoff_before_pickup"]),
        ({"dropoff_datetime": "2015-12-02 08:00:00"}, ["too_long"]),  # exactly 24 h
        ({WHOLE_LINE: "1,2,3"}, ["too_many_fields"]),
        ({WHOLE_LINE: '1,2,"3'}, ["unclosed_quote"]),
        (
            {"pickup_latitude": "0", "dropoff_latitude": "50", "dropoff_datetime": "x"},
            ["dropoff_outside_box", "unparsable_dropoff_at", "zero_pickup"],
        ),
    ]
    for name, ours in zip(POINTS, OURS, strict=True):
        cases += [
            ({name: None}, [f"missing_{ours}"]),
            ({name: "x"}, [f"unparsable_{ours}"]),
            ({name: "NaN"}, [f"non_finite_{ours}"]),
            ({name: "-Infinity"}, [f"non_finite_{ours}"]),
        ]
    found = all_of(spark, [changes for changes, _ in cases])
    assert [(c, row["reasons"]) for (c, _), row in zip(cases, found, strict=True)] == cases
    fields = [{**GOOD, **changes} if reasons else None for changes, reasons in cases]
    assert [row["fields"] for row in found] == fields


def test_longest_duration_and_box_are_the_callers(spark: SparkSession) -> None:
    assert one(spark, max_duration_s=600)["reasons"] == ["too_long"]
    point = {"pickup_latitude": "1", "dropoff_latitude": "-1"}
    equator = Box(-1, -75, 1, -72)
    assert one(spark, max_duration_s=600.001, box=equator, **point)["reasons"] is None


def test_a_row_is_rejected_exactly_when_it_has_a_reason(spark: SparkSession) -> None:
    # All combinations of a few values, so that no mixture falls between the quick test that
    # accepts and the long list of reasons.
    lats = (None, "", "x", "NaN", "inf", "0", "40", "40.7", "42.1")
    times = (None, "x", "2015-12-01 08:00:00", "2015-12-02 09:00:00")
    rows = [
        {
            **GOOD,
            "pickup_latitude": a,
            "dropoff_latitude": b,
            "pickup_datetime": s,
            "dropoff_datetime": e,
        }
        for a, b, s, e in itertools.product(lats, lats, times, times)
    ]
    # A latitude of 40 or 40.7 at both ends, and (start, end) of equal times: 2 x 2 x 2.
    found = judged(spark, rows)
    reasons = [row["reasons"] for row in found.select("reasons").collect()]
    assert reasons.count(None) == 8
    assert [] not in reasons
    assert not TRIPS.mismatches(trips_of(found).schema)
    assert not TRIPS_REJECTED.mismatches(rejected_of(found).schema)


def test_optional_columns(spark: SparkSession) -> None:
    cases: list[tuple[dict[str, str | None], str, Any, list[str] | None]] = [
        ({"fare_amount": "ten"}, "fare_usd", None, ["fare_usd"]),
        ({"fare_amount": "NaN"}, "fare_usd", None, ["fare_usd"]),
        ({"fare_amount": ""}, "fare_usd", None, None),
        ({"fare_amount": None}, "fare_usd", None, None),
        ({"fare_amount": "-2.50"}, "fare_usd", -2.5, None),
        ({"passenger_count": "1.0"}, "passengers", 1, None),
        ({"passenger_count": "1.5"}, "passengers", None, ["passengers"]),
        ({"passenger_count": "inf"}, "passengers", None, ["passengers"]),
        ({"passenger_count": "99999999999"}, "passengers", None, ["passengers"]),
        ({"payment_type": "  "}, "payment_type", None, None),
        ({"payment_type": " CASH "}, "payment_type", "CASH", None),
    ]
    found = zip(cases, all_of(spark, [changes for changes, *_ in cases]), strict=True)
    assert [(c, name, row[name], row["unparsable"]) for (c, name, *_), row in found] == cases


def test_times(spark: SparkSession) -> None:
    cases: list[tuple[str, str | None]] = [
        ("2015-12-01 08:00", "2015-12-01 13:00:00.000"),
        ("2015-12-1 8:05:09", "2015-12-01 13:05:09.000"),
        ("2015-12-01T08:00:00.25", "2015-12-01 13:00:00.250"),
        ("2015-12-01T08:00:00Z", "2015-12-01 08:00:00.000"),
        ("2015-12-01 08:00:00 Z", "2015-12-01 08:00:00.000"),
        ("2015-12-01 08:00:00+01:00", "2015-12-01 07:00:00.000"),
        ("2015-12-01 08:00:00+0130", "2015-12-01 06:30:00.000"),
        ("2015-12-01 08:00:00-05", "2015-12-01 13:00:00.000"),
        # No guesses: a name of a zone, a time alone, a date alone, the American order.
        ("2015-12-01 08:00:00 EST", None),
        ("08:00:00", None),
        ("2015-12-01", None),
        ("12/01/2015 08:00", None),
        ("2015-12-01 24:00:00", None),
        ("2015-02-29 08:00:00", None),
    ]
    found = all_of(
        spark,
        [
            {"pickup_datetime": text, "dropoff_datetime": "2015-12-01T23:00:00Z"}
            for text, _ in cases
        ],
    )
    assert [(t, utc(row["pickup_at"])) for (t, _), row in zip(cases, found, strict=True)] == cases
    # Each time is an instant or a wall clock by itself.
    assert {utc(row["dropoff_at"]) for row in found} == {"2015-12-01 23:00:00.000"}


def test_clock_changes(spark: SparkSession) -> None:
    spring, autumn, zoned = all_of(
        spark,
        [
            {"pickup_datetime": start, "dropoff_datetime": end}
            for start, end in (
                ("2015-03-08 01:50:00", "2015-03-08 02:05:00"),
                ("2015-11-01 01:50:00", "2015-11-01 01:10:00"),
                ("2015-03-08 02:05:00Z", "2015-03-08 02:06:00Z"),
            )
        ],
    )
    # 02:05 was never shown: it is taken for 03:05 EDT, 15 minutes after 01:50 EST.
    assert utc(spring["dropoff_at"]) == "2015-03-08 07:05:00.000"
    assert (spring["reasons"], spring["shifted"]) == (None, True)
    # Drop-off "before" pickup: 01:50 EDT to 01:10 EST is 20 minutes.
    assert (utc(autumn["pickup_at"]), utc(autumn["dropoff_at"])) == (
        "2015-11-01 05:50:00.000",
        "2015-11-01 06:10:00.000",
    )
    assert (autumn["reasons"], autumn["shifted"]) == (None, False)
    # With a zone of their own, times are not shifted: 02:05Z is a time like any other.
    assert (utc(zoned["pickup_at"]), zoned["shifted"]) == ("2015-03-08 02:05:00.000", False)


def test_day_is_the_local_date_of_the_pickup(spark: SparkSession) -> None:
    row = one(spark, pickup_datetime="2015-12-02T03:00:00Z", dropoff_datetime="2015-12-02T03:10Z")
    assert row["day"] == date(2015, 12, 1)  # 22:00 in New York


LISBON = """
name = "lisbon"
timezone = "Europe/Lisbon"
[columns]
pickup_at = ["Início"]
dropoff_at = ["Fim"]
pickup_lat = ["lat_i"]
pickup_lon = ["lon_i"]
dropoff_lat = ["lat_f"]
dropoff_lon = ["lon_f"]
distance_mi = ["km"]
service = ["tipo"]
[service]
default = "taxi"
[units]
distance = "km"
coordinates = "microdeg"
[times]
formats = ["dd-MM-yyyy HH:mm", "HH'h'mm dd-MM-yyyy"]
"""


def test_another_city(spark: SparkSession) -> None:
    row: dict[str, str | None] = {
        "Início": "01-07-2015 08:00",
        "Fim": "08h10 01-07-2015",  # ends like an offset, but the format reads no zone
        "lat_i": "38713900",
        "lon_i": "-9139400",
        "lat_f": "38720000",
        "lon_f": "-9140000",
        "km": "1.609344",
        "tipo": None,
    }
    box = Box(38, -10, 39, -9)
    (found,) = judged(spark, [row], box=box, mapping=LISBON).collect()
    assert found["reasons"] is None
    assert utc(found["pickup_at"]) == "2015-07-01 07:00:00.000"  # Lisbon's summer time is UTC+1
    assert utc(found["dropoff_at"]) == "2015-07-01 07:10:00.000"
    assert found["pickup_lat"] == pytest.approx(38.7139, abs=1e-12)
    assert found["distance_mi"] == pytest.approx(1.0)
    assert (found["service"], found["day"]) == ("taxi", date(2015, 7, 1))


def test_wrong_time_pattern_is_a_usage_error(spark: SparkSession) -> None:
    check_time_formats(spark, parse_layout(LISBON, "lisbon.toml"))
    wrong = parse_layout(LISBON.replace("dd-MM-yyyy HH:mm", "YYYY-MM-DD"), "lisbon.toml")
    with pytest.raises(UsageError, match=r"mapping lisbon: \[times\] 'YYYY-MM-DD' is no pattern"):
        check_time_formats(spark, wrong)


def test_outcomes_add_up(spark: SparkSession) -> None:
    rows = [
        GOOD,
        {**GOOD, "fare_amount": "x", "passenger_count": "y"},
        {**GOOD, "fare_amount": "x", "pickup_latitude": "0"},
        {**GOOD, "pickup_latitude": "0", "dropoff_latitude": "0"},
        {
            **GOOD,
            "pickup_datetime": "2015-03-08 02:30:00",
            "dropoff_datetime": "2015-03-08 02:40:00",
        },
    ]
    found = judged(spark, rows)
    expected = Outcome(
        rows=5,
        read=5,
        accepted=3,
        rejected=2,
        shifted=1,
        reasons=Counter(zero_pickup=2, zero_dropoff=1),
        unparsable=Counter(fare_usd=1, passengers=1),  # of accepted rows only
        days=Counter({"2015-12-01": 2, "2015-03-08": 1}),
    )
    assert outcomes(found) == {"f" * 64: expected}
    # A copy of the rows shows: there are more of them than their numbers say.
    twice = outcomes(found.unionAll(found))["f" * 64]
    assert (twice.rows, twice.read) == (5, 10)
    lost = outcomes(found.where(F.col("source_row") != 2))["f" * 64]
    assert (lost.rows, lost.read) == (5, 4)

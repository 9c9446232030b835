"""Headers of every generation, and mappings that users write."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.trips.layouts import (
    Unrecognised,
    builtin_layouts,
    parse_layout,
    read_layout,
    recognise,
)

# As the city published them.
YELLOW_2009 = (
    "vendor_name,Trip_Pickup_DateTime,Trip_Dropoff_DateTime,Passenger_Count,Trip_Distance,"
    "Start_Lon,Start_Lat,Rate_Code,store_and_forward,End_Lon,End_Lat,Payment_Type,Fare_Amt,"
    "surcharge,mta_tax,Tip_Amt,Tolls_Amt,Total_Amt"
)
YELLOW_2014 = (  # with spaces after the commas
    "vendor_id, pickup_datetime, dropoff_datetime, passenger_count, trip_distance,"
    " pickup_longitude, pickup_latitude, rate_code, store_and_fwd_flag, dropoff_longitude,"
    " dropoff_latitude, payment_type, fare_amount, surcharge, mta_tax, tip_amount, tolls_amount,"
    " total_amount"
)
YELLOW_2015 = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,"
    "pickup_longitude,pickup_latitude,RateCodeID,store_and_fwd_flag,dropoff_longitude,"
    "dropoff_latitude,payment_type,fare_amount,extra,mta_tax,tip_amount,tolls_amount,"
    "improvement_surcharge,total_amount"
)
GREEN_2014 = (
    "VendorID,lpep_pickup_datetime,Lpep_dropoff_datetime,Store_and_fwd_flag,RateCodeID,"
    "Pickup_longitude,Pickup_latitude,Dropoff_longitude,Dropoff_latitude,Passenger_count,"
    "Trip_distance,Fare_amount,Extra,MTA_tax,Tip_amount,Tolls_amount,Ehail_fee,Total_amount,"
    "Payment_type,Trip_type "
)
MERGED = (
    "type,vendor_id,pickup_datetime,dropoff_datetime,passenger_count,trip_distance,"
    "pickup_longitude,pickup_latitude,dropoff_longitude,dropoff_latitude,rate_code,payment_type,"
    "fare_amount,tip_amount,tolls_amount,total_amount"
)
YELLOW_2018 = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
    "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,"
    "tip_amount,tolls_amount,improvement_surcharge,total_amount"
)
ALL = {
    "pickup_at",
    "dropoff_at",
    "pickup_lat",
    "pickup_lon",
    "dropoff_lat",
    "dropoff_lon",
    "distance_mi",
    "fare_usd",
    "tip_usd",
    "tolls_usd",
    "total_usd",
    "passengers",
    "payment_type",
    "vendor",
}


@pytest.mark.parametrize(
    ("header", "service", "pickup_at", "pickup_lat"),
    [
        (YELLOW_2009, "yellow", "Trip_Pickup_DateTime", "Start_Lat"),
        (YELLOW_2014, "yellow", " pickup_datetime", " pickup_latitude"),
        (YELLOW_2015, "yellow", "tpep_pickup_datetime", "pickup_latitude"),
        (GREEN_2014, "green", "lpep_pickup_datetime", "Pickup_latitude"),
        (MERGED, "yellow", "pickup_datetime", "pickup_latitude"),
    ],
)
def test_every_generation(header: str, service: str, pickup_at: str, pickup_lat: str) -> None:
    found = recognise(header.split(","), builtin_layouts())
    source = dict(found.source)
    assert source["pickup_at"] == pickup_at
    assert source["pickup_lat"] == pickup_lat
    assert source.keys() - {"service"} == ALL
    assert found.service == service
    assert found.layout.timezone == "America/New_York"


def test_merged_file_names_the_service_in_a_column() -> None:
    assert dict(recognise(MERGED.split(","), builtin_layouts()).source)["service"] == "type"


def test_spaces_for_underscores_and_case() -> None:
    header = MERGED.replace("pickup_datetime", "Pickup DateTime").split(",")
    assert dict(recognise(header, builtin_layouts()).source)["pickup_at"] == "Pickup DateTime"


def test_zone_ids_are_refused_with_the_way_out() -> None:
    with pytest.raises(Unrecognised) as e:
        recognise(YELLOW_2018.split(","), builtin_layouts())
    assert str(e.value) == (
        "has zone ids (PULocationID), no coordinates: TLC's files after 2016-06 and its Parquet "
        "re-issues of earlier years cannot be used; use the original CSV"
    )


def test_unknown_header_names_what_is_missing() -> None:
    with pytest.raises(Unrecognised, match=r"no known column for dropoff_lat, dropoff_lon .*--map"):
        recognise(
            ["pickup_datetime", "dropoff_datetime", "start_lat", "start_lon", "x"],
            builtin_layouts(),
        )


def test_unknown_header_is_not_shown_without_end() -> None:
    with pytest.raises(Unrecognised) as e:
        recognise([f"column {i} {'x' * 50}" for i in range(5000)], builtin_layouts())
    assert len(str(e.value)) < 1000


@pytest.mark.parametrize("extra", ["pickup_datetime", " PICKUP_DATETIME", "start_lon"])
def test_two_names_for_one_column_are_refused(extra: str) -> None:
    with pytest.raises(Unrecognised, match=r"which of them counts|both of which mean pickup_lon"):
        recognise([*MERGED.split(","), extra], builtin_layouts())


PORTO = """
name = "porto"
timezone = "Europe/Lisbon"
[columns]
pickup_at = ["inicio"]
dropoff_at = ["fim"]
pickup_lat = ["lat1"]
pickup_lon = ["lon1"]
dropoff_lat = ["lat2"]
dropoff_lon = ["lon2"]
"""


def test_service_and_units_are_optional() -> None:
    layout = parse_layout(PORTO, "porto.toml")
    assert (layout.service_default, layout.distance_unit, layout.coordinates_unit) == (
        None,
        "mi",
        "deg",
    )
    assert layout.in_timezone("Atlantic/Azores").timezone == "Atlantic/Azores"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[columns]", "[colums]"), r"unknown colums in the top level"),
        (('dropoff_lat = ["lat2"]', ""), r"\[columns\] lacks dropoff_lat"),
        (('pickup_lat = ["lat1"]', 'pickup_lat = "lat1"'), r"pickup_lat must be a list of names"),
        (("Europe/Lisbon", "Europe/Lisboa"), r"no time zone 'Europe/Lisboa'"),
        (('name = "porto"', ""), r'needs name = "..."'),
        (('name = "porto"', "name ="), r"not valid TOML"),
        (
            ("[columns]", '[units]\ndistance = "yd"\n[columns]'),
            r"distance must be one of mi, km, m",
        ),
        (("[columns]", '[units]\ncoordinates = "rad"\n[columns]'), r"must be one of deg, microdeg"),
        (
            ("[columns]", '[times]\nformats = "dd"\n[columns]'),
            r"formats must be a list of patterns",
        ),
        (
            ("[columns]", '[times]\nformats = ["yyyy HH:mm", "yyyy HH:mm XXX"]\n[columns]'),
            r"a zone all of them or none",
        ),
        (("[columns]", '[[unusable]]\ncolumns = ["x"]\n[columns]'), r"needs columns and message"),
    ],
)
def test_wrong_mapping_is_a_usage_error(change: tuple[str, str], message: str) -> None:
    text = PORTO.replace(*change)
    with pytest.raises(UsageError, match=r"mapping porto.toml: .*" + message):
        parse_layout(text, "porto.toml")


def test_quoted_letters_of_a_pattern_are_no_zone() -> None:
    text = PORTO.replace("[columns]", "[times]\nformats = [\"yyyy-MM-dd'Z'HH:mm\"]\n[columns]")
    assert not parse_layout(text, "x").times_have_zone
    assert parse_layout(text.replace("HH:mm", "HH:mmX"), "x").times_have_zone


def test_missing_mapping_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--mapping .*none.toml: cannot be read"):
        read_layout(str(tmp_path / "none.toml"))

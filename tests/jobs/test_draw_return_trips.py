"""draw_return_trips on a small lake: the two files, with pairs and without any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs.draw_return_trips import main
from jobs.lake import Lake
from schemas import DELIVERIES, RETURN_TRIP_STATS, RETURN_TRIPS, TRIPS, Table
from schemas.frames import frame_of

Rows = Sequence[Mapping[str, object]]

_NOON = datetime(2015, 12, 1, 17, tzinfo=UTC)  # in New York
_FILE = "a" * 64
_PROPERTIES = {"roundtrip.radii_m": "50,100", "roundtrip.window_s": "28800"}


def _fill(
    spark: SparkSession, lake: Lake, table: Table, rows: Sequence[Mapping[str, object]]
) -> None:
    full = [tuple(row.get(c.name) for c in table.columns) for row in rows]
    lake.append(table, frame_of(spark, full, table.struct))


def _lake(spark: SparkSession, lake: Lake, paths: list[str], pairs: list[tuple[int, int]]) -> None:
    """Ten trips up and down a street; `pairs` are (return trip, radius) of trip 0."""
    trips = [
        {
            "trip_id": i,
            "pickup_at": _NOON + timedelta(minutes=10 * i),
            "dropoff_at": _NOON + timedelta(minutes=10 * i + 5),
            "pickup_lat": 40.75 + 0.001 * i,
            "pickup_lon": -73.98,
            "dropoff_lat": 40.76,
            "dropoff_lon": -73.97,
            "day": date(2015, 12, 1),
            "file_id": _FILE,
            "source_row": i,
        }
        for i in range(10)
    ]
    _fill(spark, lake, TRIPS, trips)
    delivery = {
        "file_id": _FILE,
        "paths": paths,
        "bytes": 1,
        "layout": "x",
        "rows_read": 10,
        "rows_accepted": 10,
        "rows_rejected": 0,
        "run_id": "r",
    }
    _fill(spark, lake, DELIVERIES, [delivery])
    lake.create(RETURN_TRIPS, _PROPERTIES)
    found = [
        {
            "trip_id": 0,
            "return_trip_id": b,
            "dropoff_at": trips[0]["dropoff_at"],
            "wait_s": 600.0 * b - 300,
            "dropoff_gap_m": 1.0,
            "pickup_gap_m": 2.0,
            "radius_m": r,
        }
        for b, r in pairs
    ]
    _fill(spark, lake, RETURN_TRIPS, found)
    stats = [
        {
            "hour_at": _NOON,
            "day": date(2015, 12, 1),
            "hour": 12,
            "radius_m": r,
            "trips": 10,
            "pairs": sum(x <= r for _, x in pairs),
            "trips_with_return": int(any(x <= r for _, x in pairs)),
            "share_with_return": 0.1 * any(x <= r for _, x in pairs),
        }
        for r in (50, 100)
    ]
    _fill(spark, lake, RETURN_TRIP_STATS, stats)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pairs", "by_radius", "words"),
    [
        ([(2, 50), (3, 100), (4, 100)], {"50": 1, "100": 3}, "10\u00a0% of trips had a trip back"),
        ([], {"50": 0, "100": 0}, "No trip went back"),
    ],
    ids=["three pairs", "none"],
)
def test_it_leaves_a_page_and_a_poster(
    spark: SparkSession,
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pairs: list[tuple[int, int]],
    by_radius: dict[str, int],
    words: str,
) -> None:
    _lake(spark, lake, ["file:/x/made_yellow_2015-12-01.csv.gz"], pairs)
    out = tmp_path / "demo"
    assert main(["--lake", lake.root, "--out", str(out)]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["pairs_by_radius_m"] == by_radius
    assert line["made"]
    assert line["rows"] == {"starts": len(pairs), "trips": 10, "pairs": len(pairs)}
    assert sorted(p.name for p in out.iterdir()) == ["return_trips.html", "return_trips.png"]
    text = (out / "return_trips.html").read_text(encoding="utf-8")
    assert words in text
    assert "made_yellow_2015-12-01.csv.gz" in text
    assert ("data:image/png;base64," in text) == bool(pairs)
    assert Image.open(out / "return_trips.png").size == (1400, 1560)


@pytest.mark.slow
def test_without_gold_tables_it_says_what_to_run(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--lake", lake.root, "--out", str(tmp_path / "demo")]) == 2
    assert "no table gold.return_trips" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()

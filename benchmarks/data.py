"""Trips to measure on: made days, or the real day repeated with jitter where it is at hand.

Each data set is one Parquet file of trip_id, pickup_us, dropoff_us (microseconds, UTC) and the four
coordinates in degrees, rows that are trips only, so that every contender starts from the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.make_trips import main as make_trips

TRIPS_PER_DAY = 400_000
REAL_DAY = "nyc_yellow_green_2015-12-01.csv.gz"
_COORDINATES = ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")


def made_days(days: int, folder: Path) -> Path:
    """That many made days from the project's own generator, clean rows only."""
    out = folder / f"made_{days}d.parquet"
    if out.exists():
        return out
    raw = folder / f"made_{days}d"
    code = make_trips(
        [
            *("--days", str(days)),
            *("--trips-per-day", str(TRIPS_PER_DAY)),
            *("--dirty-share", "0"),
            *("--format", "parquet", "--out", str(raw)),
        ]
    )
    if code:
        raise RuntimeError(f"jobs/make_trips.py ended with exit code {code}")
    parts = [pd.read_parquet(f) for f in sorted(raw.rglob("*.parquet"))]
    rows = pd.concat(parts, ignore_index=True)
    return _write(
        rows["tpep_pickup_datetime"],
        rows["tpep_dropoff_datetime"],
        [rows[f"{e}_{c}itude"] for e in ("pickup", "dropoff") for c in ("lat", "long")],
        out,
    )


def real_days(days: int, folder: Path) -> Path | None:
    """The real day, copies shifted by whole days with 25 m and 300 s of jitter; None without it."""
    shared = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    source = shared / "trips" / REAL_DAY
    if not source.exists():
        return None
    out = folder / f"real_{days}d.parquet"
    if out.exists():
        return out
    day = pd.read_csv(source, parse_dates=["pickup_datetime", "dropoff_datetime"])
    took = day["dropoff_datetime"] - day["pickup_datetime"]
    inside = (took >= pd.Timedelta(0)) & (took < pd.Timedelta(days=1))
    for end in ("pickup", "dropoff"):
        inside &= day[f"{end}_latitude"].between(40, 42) & day[f"{end}_longitude"].between(-75, -72)
    day = day[inside]
    rng = np.random.default_rng(7)
    pickups, dropoffs, points = [], [], []
    for copy in range(days):
        n, jitter = len(day), int(copy > 0)
        shift = pd.to_timedelta(rng.integers(-300, 301, n) * jitter + copy * 86400, unit="s")
        pickups.append(day["pickup_datetime"] + shift)
        dropoffs.append(day["dropoff_datetime"] + shift)
        moved = []
        for end in ("pickup", "dropoff"):
            lat = day[f"{end}_latitude"] + rng.normal(0, 25, n) * jitter / 111_195
            east = rng.normal(0, 25, n) * jitter / (111_195 * np.cos(np.radians(lat)))
            moved += [lat, day[f"{end}_longitude"] + east]
        points.append(moved)
    columns = [pd.concat([p[i] for p in points]) for i in range(4)]
    return _write(pd.concat(pickups), pd.concat(dropoffs), columns, out)


def _write(pickup: pd.Series, dropoff: pd.Series, coordinates: list[pd.Series], out: Path) -> Path:
    return write_trips(
        {
            "trip_id": np.arange(len(pickup), dtype=np.int64),
            "pickup_us": pickup.astype("datetime64[us]").astype("int64").to_numpy(),
            "dropoff_us": dropoff.astype("datetime64[us]").astype("int64").to_numpy(),
            **dict(zip(_COORDINATES, (c.astype("float64") for c in coordinates), strict=True)),
        },
        out,
    )


def write_trips(columns: Mapping[str, Any], out: Path) -> Path:
    """A file of trips as every contender reads it, from columns of those names."""
    table = pa.table(dict(columns))
    part = out.with_suffix(".part")
    pq.write_table(table, part, row_group_size=1 << 18)
    part.replace(out)
    return out

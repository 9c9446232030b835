"""From table to table, and the lookups in what that leaves, on a crowd of trips."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks import delta_to_delta, lookups
from pipelines.trips.return_trips import RADII_M
from schemas import RETURN_TRIPS
from tests.benchmarks.crowd import crowd_file, gaps
from udfs.native import is_available


@pytest.mark.slow
def test_table_to_table_and_lookups(spark: SparkSession, tmp_path: Path) -> None:
    if not is_available(spark):
        pytest.skip("no jar of the native method")
    path = crowd_file(tmp_path / "trips.parquet")
    lake, optimize_s = delta_to_delta.trips_lake(spark, path, tmp_path / "lake")
    found = delta_to_delta.delta_to_delta(lake, radii_m=RADII_M, rounds=1)
    assert found["pairs"] == sum(gap < max(RADII_M) for gap in gaps())
    assert lake.read(RETURN_TRIPS).count() == found["pairs"]
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["lake"], "the others are gone"
    assert all(len(s) == 1 for s in found["seconds"].values())
    found["optimize_s"] = {"trips": optimize_s, "pairs": 0.0}
    assert "the bar of 1.15" in delta_to_delta.markdown(found, "a crowd")
    quick = lookups.lookups(lake, joined_s=1.1, repeats=2)
    assert quick["pairs"] == found["pairs"]
    assert "20 times 55 ms" in lookups.text(quick)

"""Every peer counts the pairs that brute force finds, on a crowd of trips between two places."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks.contenders import contenders
from benchmarks.peers import c_peer, duckdb_plans, sedonadb_peer, seed_plan, tree_peer
from benchmarks.plain_grid import WINDOW_US
from tests.benchmarks.crowd import HOUR_US, crowd_file, gaps


@pytest.fixture(scope="module")
def trips_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crowd_file(tmp_path_factory.mktemp("crowd") / "trips.parquet")


@pytest.fixture(scope="module")
def gaps_m() -> list[float]:
    return gaps()


def duckdb_plan(plan: Callable[..., int]) -> Callable[[Path, float, Path], int]:
    return lambda path, radius_m, scratch: plan(path, radius_m, scratch=scratch, cores=2)


PEERS: dict[str, tuple[str | None, Callable[[Path, float, Path], int]]] = {
    "DuckDB, seed": ("duckdb", duckdb_plan(duckdb_plans.seed)),
    "DuckDB, both ends keyed": ("duckdb", duckdb_plan(duckdb_plans.keyed)),
    "SedonaDB, both ends keyed": ("sedonadb", lambda p, r, _: sedonadb_peer.keyed(p, r)),
    "SedonaDB, spatial join": ("sedonadb", lambda p, r, _: sedonadb_peer.spatial(p, r)),
    "k-d tree": ("scipy", lambda p, r, _: tree_peer.count(p, r, cores=2)),
    "C": (None, lambda p, r, _: c_peer.count(c_peer.read_columns(p), r, WINDOW_US)),
}


@pytest.mark.parametrize("radius_m", [50.0, 200.0])
@pytest.mark.parametrize("peer", list(PEERS))
def test_a_peer_counts_what_brute_force_finds(
    peer: str, radius_m: float, trips_file: Path, gaps_m: list[float], tmp_path: Path
) -> None:
    package, count = PEERS[peer]
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: `make bench` brings it")
    if peer == "C" and c_peer.compiler() is None:
        pytest.skip("no C compiler (cc, gcc, clang)")
    expected = sum(gap < radius_m for gap in gaps_m)
    assert expected > 50, "the crowd is too thin to tell"
    assert all(abs(gap - radius_m) > 1e-6 for gap in gaps_m), "a pair that rounding may decide"
    assert count(trips_file, radius_m, tmp_path) == expected


def test_the_tree_takes_any_window(trips_file: Path) -> None:
    short = 3 * HOUR_US + 1
    if importlib.util.find_spec("scipy") is None:
        pytest.skip("scipy is not installed: `make bench` brings it")
    expected = sum(gap < 200 for gap in gaps(short))
    assert tree_peer.count(trips_file, 200.0, cores=1, window_us=short) == expected


@pytest.mark.slow
def test_the_seed_on_spark_counts_what_brute_force_finds(
    spark: SparkSession, trips_file: Path, gaps_m: list[float]
) -> None:
    found = seed_plan.seed_plan(spark, trips_file, 200.0).count()
    assert found == sum(gap < 200 for gap in gaps_m)


def test_contenders_are_there_or_skipped_with_a_reason(spark: SparkSession, tmp_path: Path) -> None:
    there, missing = contenders(spark, tmp_path, cores=2)
    assert not set(there) & set(missing)
    assert {"bucketed (Spark)", "h3 (Spark)", "C, one core"} <= set(there) | set(missing)
    assert all(missing.values())

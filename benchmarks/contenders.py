"""Ways to count return trips, and which of them can run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from benchmarks.peers import c_peer, duckdb_plans, sedonadb_peer, tree_peer
from benchmarks.peers.seed_plan import seed_plan
from benchmarks.plain_grid import WINDOW_US
from pipelines.trips.return_trips import METHODS
from udfs.native import JAR_NAME, has_class, is_available

BASE = "bucketed (Spark)"


@dataclass(frozen=True)
class Contender:
    """Counts the pairs of what `prepare` makes of a file; only the count is timed."""

    count: Callable[[Any, float], int]
    prepare: Callable[[Path], Any] = lambda path: path


def contenders(
    spark: SparkSession, scratch: Path, cores: int
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Every contender that can run, by name, and why the others cannot.

    Spark, DuckDB, SedonaDB and the tree get the same cores, the C program one. All start from the
    Parquet file, but for the C program, which starts from its columns in memory.
    """
    seed, keyed = (
        partial(plan, scratch=scratch, cores=cores)
        for plan in (duckdb_plans.seed, duckdb_plans.keyed)
    )
    every = {
        **{f"{m} (Spark)": Contender(_method(spark, m)) for m in METHODS if m != "naive"},
        "seed, 18 rows a trip (Spark)": Contender(lambda p, r: seed_plan(spark, p, r).count()),
        "seed, 18 rows a trip (DuckDB)": Contender(seed),
        "both ends keyed (DuckDB)": Contender(keyed),
        "both ends keyed (SedonaDB)": Contender(sedonadb_peer.keyed),
        "spatial join (SedonaDB)": Contender(sedonadb_peer.spatial),
        "k-d tree (SciPy)": Contender(partial(tree_peer.count, cores=cores)),
        "C, one core": Contender(
            lambda columns, r: c_peer.count(columns, r, WINDOW_US), c_peer.read_columns
        ),
    }
    missing = _missing(spark)
    reasons = {name: reason for name in every for key, reason in missing.items() if key in name}
    return {name: c for name, c in every.items() if name not in reasons}, reasons


def _missing(spark: SparkSession) -> dict[str, str]:
    """What is not here, as a part of the names of those that need it, and why."""
    packages = {"SedonaDB": "sedonadb", "SciPy": "scipy", "DuckDB": "duckdb"}
    missing = {
        part: f"package {package} is not installed: `make bench` brings it"
        for part, package in packages.items()
        if find_spec(package) is None
    }
    if c_peer.compiler() is None:
        missing["C, one core"] = "no C compiler (cc, gcc, clang)"
    if not is_available(spark):
        missing["native (Spark)"] = f"no {JAR_NAME} on Spark's class path: `make scala`"
    if not has_class(spark, "org.apache.sedona.spark.SedonaContext"):
        missing["sedona (Spark)"] = "no Sedona jar on Spark's class path"
    return missing


def _method(spark: SparkSession, method: str) -> Callable[[Path, float], int]:
    def count(path: Path, radius_m: float) -> int:
        trips = spark.read.parquet(str(path))
        return METHODS[method](trips, trips, radius_m=radius_m, window_us=WINDOW_US).count()

    return count

"""Fixtures that all tests share: one Spark session, the real data where it is, an empty lake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.lake import Lake
from jobs.session import open_session
from tests.few_rows import INTERPRETED, QUICK_JAVA

pytest_plugins = ("tests.standalone",)

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("JDK_JAVA_OPTIONS", QUICK_JAVA)

_TEST_CONF = {
    "spark.master": "local[2,4]",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.coalescePartitions.initialPartitionNum": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    **INTERPRETED,  # unless a test asks for `generated_code`
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
}


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes by their number: gzip's hold the time, and workers must agree on a test's name."""
    return f"{len(val)}_bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    warehouse = str(tmp_path_factory.mktemp("warehouse"))
    session = open_session("roundtrip tests", {**_TEST_CONF, "spark.sql.warehouse.dir": warehouse})
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture
def generated_code(spark: SparkSession) -> Iterator[None]:
    """Plans run as they do outside of tests: as Java that Spark writes and compiles for them."""
    before = {name: spark.conf.get(name) for name in INTERPRETED}
    for name, value in zip(before, ("true", "FALLBACK"), strict=True):
        spark.conf.set(name, value)
    yield
    for name, old in before.items():
        spark.conf.set(name, str(old))


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, SHARED_DATA or ../shared/data; skips where it is absent."""
    folder = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}: set SHARED_DATA to its folder")
    return folder

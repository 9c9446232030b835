"""An executor killed in the middle of a join, on a real cluster: the same pairs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.lake import Lake
from pipelines.trips.return_trips import find_return_trips
from schemas import RETURN_TRIPS, TRIPS
from tests.made_trips import MIDNIGHT, as_silver, us
from tests.standalone import ROOT, Cluster

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

TRIPS_MADE = 200_000
BEGINS = "join and write ..."
ENDS = "join and write took"


@pytest.fixture(scope="module")
def trips_at_random(spark: SparkSession) -> DataFrame:
    """A day of trips between places at random in a square of 5 km: some 300 000 pairs."""

    def share(of: str) -> Column:
        return F.pmod(F.xxhash64("trip_id", F.lit(of)), F.lit(100_000)) / 100_000

    start = us(MIDNIGHT) + (share("start") * 86_400e6).cast("bigint")
    trips = spark.range(TRIPS_MADE).withColumnRenamed("id", "trip_id")
    known = trips.select(
        "trip_id",
        F.timestamp_micros(start).alias("pickup_at"),
        F.timestamp_micros(start + 600 * 10**6).alias("dropoff_at"),
        *(
            (low + 0.045 * share(name)).alias(name)
            for end in ("pickup", "dropoff")
            for name, low in ((f"{end}_lat", 40.70), (f"{end}_lon", -74.0))
        ),
    )
    return as_silver(known)


@pytest.mark.parametrize("method", ["bucketed", "native"])
def test_an_executor_is_killed_in_the_middle_of_the_join(
    standalone_cluster: Cluster,
    wheel: Path,
    trips_at_random: DataFrame,
    lake: Lake,
    tmp_path: Path,
    method: str,
    generated_code: None,
) -> None:
    lake.append(TRIPS, trips_at_random.repartition(8))
    expected = find_return_trips(lake.read(TRIPS), method="native")
    code = tmp_path / "roundtrip.zip"
    shutil.copy(wheel, code)
    log = tmp_path / "log"
    with log.open("w") as stdout:
        job = standalone_cluster.start(
            *("--py-files", str(code), str(ROOT / "jobs" / "return_trips.py")),
            *("--lake", lake.root, "--method", method),
            stdout=stdout,
            stderr=subprocess.STDOUT,  # where spark-submit puts Python's is its own affair
        )
        while BEGINS not in log.read_text() and job.poll() is None:
            time.sleep(0.05)
        time.sleep(2.5)
        os.kill(standalone_cluster.executor_pids()[0], signal.SIGKILL)
        said = log.read_text()
        assert (BEGINS in said, ENDS in said) == (True, False), said[-4000:]
        assert job.wait(timeout=600) == 0, log.read_text()[-4000:]
    said = log.read_text()
    assert "Lost executor" in said
    line = json.loads(next(x for x in said.splitlines() if x.startswith('{"job"')))
    assert line["method"] == method
    written = lake.read(RETURN_TRIPS)
    assert line["rows"]["pairs_written"] == written.count() > 100_000
    assert written.exceptAll(expected).isEmpty()
    assert expected.exceptAll(written).isEmpty()

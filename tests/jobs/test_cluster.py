"""Jobs on a standalone master and two workers that have Spark but not the project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.lake import Lake
from schemas import DELIVERIES, TRIPS, TRIPS_REJECTED
from tests.standalone import ROOT, Cluster

pytestmark = pytest.mark.faults

_TRIPS = """\
tpep_pickup_datetime,tpep_dropoff_datetime,pickup_longitude,pickup_latitude,\
dropoff_longitude,dropoff_latitude,trip_distance
2015-12-01 08:00:00,2015-12-01 08:10:00,-73.9857,40.7484,-73.9776,40.7527,0.9
2015-12-01 09:00:00,2015-12-01 09:12:00,-73.9776,40.7527,-73.9857,40.7484,0.9
2015-12-01 10:00:00,2015-12-01 10:05:00,0,0,-73.9857,40.7484,0.9
"""


def test_ingest_on_a_cluster_with_the_wheel_as_py_files(
    standalone_cluster: Cluster, wheel: Path, spark: SparkSession, tmp_path: Path
) -> None:
    code = tmp_path / "roundtrip.zip"  # Spark puts zip files on the executors' path, not wheels
    shutil.copy(wheel, code)
    job = tmp_path / "ingest_trips.py"  # alone: what it imports can only come from --py-files
    shutil.copy(ROOT / "jobs" / "ingest_trips.py", job)
    trips = tmp_path / "trips.csv"
    trips.write_text(_TRIPS)
    lake = str(tmp_path / "lake")

    done = standalone_cluster.submit("--py-files", str(code), str(job), str(trips), "--lake", lake)

    assert done.returncode == 0, done.stderr[-4000:]
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["outcome"] == "done"
    tables = Lake(spark, lake)
    # Three rows: the third starts at (0, 0), which is no trip.
    assert tables.read(TRIPS).count() == 2
    assert tables.read(TRIPS_REJECTED).count() == 1
    delivery = tables.read(DELIVERIES).collect()[0]
    assert (delivery["rows_read"], delivery["rows_accepted"]) == (3, 2)

"""The DAG of docs/ under a real Airflow, in an environment of its own: its pins are not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from jobs import make_trips
from jobs.lake import Lake
from schemas import QUALITY_RESULTS, RETURN_TRIPS, RUNS, TRIPS
from tests.few_rows import INTERPRETED
from tests.job_processes import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

PACKAGES = ("apache-airflow==3.3.2", "apache-airflow-providers-apache-spark==6.3.4")
DAG = ROOT / "docs" / "schedule" / "airflow_dag.py"

FOR_FEW_ROWS = {
    "spark.driver.memory": "1g",
    **INTERPRETED,
}


@pytest.fixture
def airflow(tmp_path: Path) -> Path:
    """Airflow's command in a new environment; skips where it cannot be made."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no uv, which makes Airflow's environment")
    home = tmp_path / "airflow_env"
    subprocess.run([uv, "venv", "--quiet", str(home)], check=True)
    python = str(home / "bin" / "python")
    install = [uv, "pip", "install", "--quiet", "--python", python, *PACKAGES]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Airflow cannot be installed here: {done.stderr[-300:]}")
    return home / "bin" / "airflow"


def test_a_run_of_the_dag_makes_the_pairs_of_the_day_before(
    airflow: Path, lake: Lake, tmp_path: Path
) -> None:
    landing = tmp_path / "landing"
    assert make_trips.main(["--trips-per-day", "1500", "--out", str(landing)]) == 0
    spark_conf = shutil.copytree(ROOT / "spark-conf", tmp_path / "spark-conf")
    with (spark_conf / "spark-defaults.conf").open("a") as defaults:
        defaults.writelines(f"\n{name} {value}" for name, value in FOR_FEW_ROWS.items())
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SPARK_CONF_DIR": str(spark_conf),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG.parent),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2,4]"}',
        "ROUNDTRIP": str(ROOT),
        "LAKE": lake.root,
        "LANDING": str(landing),
        "QUALITY_DOCS": str(tmp_path / "pages"),
    }

    def run(*arguments: str | Path) -> str:
        command = [airflow, *arguments]
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    run("db", "migrate")
    said = run("dags", "test", "roundtrip", "2015-12-02T05:30:00+00:00", "--dagfile-path", DAG)
    assert "successful" in said
    runs = lake.read(RUNS).where("event = 'end'").orderBy("at").collect()
    assert [(r["job"], r["outcome"]) for r in runs] == [
        ("ingest_trips", "done"),
        ("return_trips", "done"),
        ("check_quality", "done"),
    ]
    checked = lake.read(QUALITY_RESULTS).select("checked").distinct().collect()
    assert {r["checked"] for r in checked} == {TRIPS.name, RETURN_TRIPS.name}
    local_day = F.to_date(F.from_utc_timestamp("dropoff_at", "America/New_York"))
    days = lake.read(RETURN_TRIPS).select(local_day.alias("day")).distinct().collect()
    assert [str(r["day"]) for r in days] == ["2015-12-01"]

"""A session opens from plain Python with nothing set, and from spark-submit after one `source`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.session import FIXED_CONF
from udfs import native

ROOT = Path(__file__).resolve().parents[2]

_JOB = """\
import json
from jobs.session import open_session

spark = open_session("trivial")
names = ("spark.sql.session.timeZone", "spark.sql.extensions")
print(json.dumps({
    "rows": [r.id for r in spark.range(3).collect()],
    "master": spark.sparkContext.master,
    "snapshots": spark.conf.get("spark.databricks.delta.snapshotPartitions", "unset"),
    "fixed": [spark.conf.get(n) for n in names],
}))
"""

_EXPECTED = {
    "rows": [0, 1, 2],
    "master": "local[*,4]",  # spark-conf/ was read
    "snapshots": "2",
    "fixed": ["UTC", FIXED_CONF["spark.sql.extensions"]],
}


def clean_environment() -> dict[str, str]:
    ours = ("SPARK_", "PYSPARK_", "PYTHON", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)}


def test_answers_do_not_depend_on_a_configuration_file(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    extensions = str(spark.conf.get("spark.sql.extensions")).split(",")
    assert extensions[0] == "io.delta.sql.DeltaSparkSessionExtension"
    assert (native.EXTENSIONS in extensions) == (native.jar_path() is not None)
    assert spark.sql("SELECT timestamp'2015-12-01 00:00:00Z'::string").first()[0] == (  # type: ignore[index]
        "2015-12-01 00:00:00"
    )


@pytest.mark.slow
def test_plain_python_needs_nothing_set(tmp_path: Path) -> None:
    job = tmp_path / "trivial.py"
    job.write_text(_JOB)
    done = subprocess.run(
        [sys.executable, job],
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == _EXPECTED


@pytest.mark.slow
def test_spark_submit_needs_one_file_sourced(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("the tests run outside .venv: `make setup` makes it")
    job = tmp_path / "trivial.py"
    job.write_text(_JOB)
    env_sh = shlex.quote(str(ROOT / "spark-conf" / "env.sh"))
    done = subprocess.run(
        ["bash", "-euc", f"source {env_sh} && spark-submit {shlex.quote(str(job))}"],
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == _EXPECTED

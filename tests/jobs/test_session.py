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

_JOB = f"""\
import json
import sys
from jobs.session import open_session

sys.path.append({str(ROOT)!r})
from tests.listening import listening

spark = open_session("trivial")
context = spark.sparkContext
listens = listening([context._jvm.java.lang.ProcessHandle.current().pid()])
names = ("spark.sql.session.timeZone", "spark.sql.extensions")
print(json.dumps(dict(
    rows=[r.id for r in spark.range(3).collect()],
    master=context.master,
    snapshots=spark.conf.get("spark.databricks.delta.snapshotPartitions", "unset"),
    fixed=[spark.conf.get(n) for n in names],
    has_page=int(context.uiWebUrl.rsplit(":", 1)[1]) in listens,
    listens_at=sorted(set(listens.values())),
)))
"""

_EXPECTED = {
    "rows": [0, 1, 2],
    "master": "local[*,4]",  # spark-conf/ was read
    "snapshots": "2",
    "fixed": ["UTC", FIXED_CONF["spark.sql.extensions"]],
    "has_page": True,
    "listens_at": ["127.0.0.1"],
}
_FOR_ANOTHER_MASTER = (
    "--master spark://host:7077 job.py",
    "--master=yarn job.py",
    "--conf spark.master=k8s://host job.py",
    "--properties-file spark-conf/cluster.conf job.py",
)
_FOR_THIS_MACHINE = (
    "job.py --lake lake",
    "--master local[2] job.py",
    "--conf spark.master=local[*,4] pyspark-shell",
    "--master local[2] --properties-file mine.conf job.py",
    "--load-spark-defaults --properties-file spark-conf/openlineage.conf job.py",
)


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


@pytest.mark.parametrize("arguments", [*_FOR_THIS_MACHINE, *_FOR_ANOTHER_MASTER])
@pytest.mark.parametrize("own", [None, "10.0.0.7"])
def test_only_a_local_master_is_kept_to_this_machine(arguments: str, own: str | None) -> None:
    """Executors elsewhere call the driver back; and an address of one's own stays."""
    here = "127.0.0.1" if arguments in _FOR_THIS_MACHINE else None
    assert told_to_spark("SPARK_LOCAL_IP", arguments, own) == (own or here)


@pytest.mark.parametrize("own", [None, "-Dx=y"])
@pytest.mark.parametrize("job", ["jobs/check_quality.py silver.trips", "jobs/return_trips.py"])
def test_only_a_short_job_does_without_the_second_compiler(job: str, own: str | None) -> None:
    told = (told_to_spark("SPARK_SUBMIT_OPTS", job, own) or "").split()
    quick = "check_quality" in job
    assert told == [own] * bool(own) + ["-XX:TieredStopAtLevel=1"] * quick


def told_to_spark(variable: str, arguments: str, own: str | None) -> str | None:
    """What `variable` is for Spark, where a shell had `own` in it, by spark-conf/spark-env.sh."""
    script = f". {shlex.quote(str(ROOT / 'spark-conf' / 'spark-env.sh'))}; env"
    command = ["bash", "-ec", f"set -a; {script}", "spark-class"]
    submit = ["org.apache.spark.deploy.SparkSubmit", *arguments.split()]
    environment = clean_environment() | ({variable: own} if own else {})
    told = subprocess.check_output([*command, *submit], env=environment, text=True).splitlines()
    return next((x.split("=", 1)[1] for x in told if x.startswith(f"{variable}=")), None)


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

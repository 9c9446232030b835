"""One place that opens a Spark session, so that every job runs under the same settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.fetch_jars import OWN_JAR
from jobs.installed import SetupError, check_jars, check_java
from udfs.native import EXTENSIONS

# What the answers depend on is set in code, so that no configuration file can change an answer.
_DELTA = "io.delta.sql.DeltaSparkSessionExtension"
FIXED_CONF = {
    "spark.sql.extensions": f"{_DELTA},{EXTENSIONS}" if OWN_JAR.exists() else _DELTA,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def conf_dir() -> Path:
    """The project's SPARK_CONF_DIR: in a checkout beside jobs/, in a wheel its own package."""
    beside = Path(__file__).resolve().parents[1] / "spark-conf"
    if beside.is_dir():
        return beside
    spec = find_spec("spark_conf")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("spark-conf is not installed with this package: reinstall roundtrip")
    return Path(next(iter(spec.submodule_search_locations)))


def open_session(app_name: str, conf: Mapping[str, str] | None = None) -> SparkSession:
    """A session under spark-conf/, or under whatever spark-submit was given.

    Started with plain `python`, it checks what Spark needs before Spark starts, because Spark's
    own message for a missing Java is a stack trace. `conf` overrides single settings.
    Raises SetupError with the way out.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not under spark-submit
        check_java()
        check_jars()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        # Spark composes its command line in a JVM of its own, which lives for half a second.
        os.environ.setdefault("SPARK_LAUNCHER_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        if "SPARK_CONF_DIR" not in os.environ:
            os.environ["SPARK_CONF_DIR"] = str(conf_dir())
    builder = SparkSession.builder.appName(app_name)
    for key, value in {**(conf or {}), **FIXED_CONF}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    _look_up_once(spark)
    _send_own_jar(spark)
    return spark


@contextmanager
def settings(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """The session under `conf`, and as it was afterwards."""
    before = {name: spark.conf.get(name, None) for name in conf}
    for name, value in conf.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)


def _look_up_once(spark: SparkSession) -> None:
    """Keep the classes that PySpark asks the JVM for with each function of a plan.

    They are looked for in the packages that PySpark imports, one after another, in hundreds of
    jars: two fifths of the time in which a plan is put together.
    """
    jvm = spark._jvm
    for name in ("org.apache.spark.sql.functions", "functions", "PythonUtils"):
        setattr(jvm, name, getattr(jvm, name))


def _send_own_jar(spark: SparkSession) -> None:
    """Give the project's jar to executors in other processes, whose Spark may lack it.

    The driver, and with it a local master, has it among Spark's jars, see jobs/fetch_jars.py.
    """
    context = spark.sparkContext
    if OWN_JAR.exists() and not re.fullmatch(r"local(\[.*\])?", context.master or ""):
        context._jsc.addJar(str(OWN_JAR))


@cache
def code_version() -> str:
    """Version of the package and, in a checkout, the commit ("0.1.0+1a2b3c4", "-dirty")."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        released = version("roundtrip")
    except PackageNotFoundError:
        released = "0"
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return released
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return released
    return f"{released}+{described}"

"""The JVM half of udfs/: the one place from which Python reaches roundtrip-udfs.jar.

The jar is compiled from udfs/scala by setup.py and shipped beside this module. `jobs/session.py`
puts it on the class path; where it is missing `is_available` is False and callers use the twin in
pure Spark or Python.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

JAR_NAME = "roundtrip-udfs.jar"

EXTENSIONS = "org.apache.spark.sql.roundtrip.RoundtripExtensions"
"""For `spark.sql.extensions`: adds the functions of udfs.geometry to SQL, under the same names."""

_JOIN = "org.apache.spark.sql.roundtrip.ReturnTripJoin"


def jar_path() -> Path | None:
    """The jar as a file, or None where it was not compiled."""
    path = Path(str(files("udfs").joinpath(JAR_NAME)))
    return path if path.is_file() else None


def is_available(spark: SparkSession) -> bool:
    """Whether the session's driver has the jar on its class path."""
    return has_class(spark, _JOIN)


def has_class(spark: SparkSession, name: str) -> bool:
    """Whether the session's driver has a class, by its full name, on its class path."""
    try:
        jvm = spark._jvm
    except AttributeError:  # Spark Connect has no JVM on this side
        return False
    if jvm is None:
        return False
    loader = jvm.org.apache.spark.util.Utils.getContextOrSparkClassLoader()
    return loader.getResource(name.replace(".", "/") + ".class") is not None


def register_functions(spark: SparkSession) -> None:
    """Add the SQL functions to a session that was opened without `EXTENSIONS`."""
    jvm = spark._jvm
    assert jvm is not None, "is_available comes first"
    registry = spark._jsparkSession.sessionState().functionRegistry()
    jvm.org.apache.spark.sql.roundtrip.SqlFunctions.addTo(registry)


def return_trip_pairs(
    outbound: DataFrame, inbound: DataFrame, *, radius_m: float, window_us: int
) -> DataFrame:
    """Pairs (trip_id, return_trip_id, dropoff_us, wait_us, dropoff_gap_m, pickup_gap_m).

    Both inputs have trip_id, pickup_us, dropoff_us (bigint, microseconds since 1970) and
    pickup_lat, pickup_lon, dropoff_lat, dropoff_lon (double, degrees). Radius in metres and window
    in microseconds, both above 0. Lazy, and only those columns are computed that are used.
    """
    spark = outbound.sparkSession
    jvm = spark._jvm
    assert jvm is not None, "is_available comes first"
    join = jvm.org.apache.spark.sql.roundtrip.ReturnTripJoin
    found = join.pairs(outbound._jdf, inbound._jdf, float(radius_m), int(window_us))
    return DataFrame(found, spark)

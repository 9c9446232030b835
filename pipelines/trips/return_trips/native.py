"""The kernel in Scala: one shuffle into tiles of space and time, sorted arrays inside each.

See udfs/scala for how it works and what it needs. It takes the jar of `udfs.native`.
"""

from __future__ import annotations

from pyspark.sql import DataFrame

from pipelines.errors import UsageError
from udfs.native import JAR_NAME, is_available, return_trip_pairs


def pairs(outbound: DataFrame, inbound: DataFrame, *, radius_m: float, window_us: int) -> DataFrame:
    """Return trips found by the JVM kernel, see `pipelines.trips.return_trips`.

    Where both sides are the same trips they are read and shuffled once. Raises UsageError where
    the session has no jar.
    """
    if not is_available(outbound.sparkSession):
        raise UsageError(
            f"method native needs {JAR_NAME} on Spark's class path: "
            "run `make scala`, or use method bucketed"
        )
    return return_trip_pairs(outbound, inbound, radius_m=radius_m, window_us=window_us)

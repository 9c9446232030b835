"""Spark for few rows: plans run once, so making and compiling Java for each is most of the time."""

from __future__ import annotations

INTERPRETED = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
INTERPRETED_AS_OPTIONS = [x for k, v in INTERPRETED.items() for x in ("--conf", f"{k}={v}")]
"""The same as arguments of spark-submit."""

QUICK_JAVA = (
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
    " -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)
"""For every Java that a test starts, as JDK_JAVA_OPTIONS, which Java reads by itself: compile what
runs often once, quickly, and no better, with as much room for it as there would be otherwise, or a
session of many tests fills it and compiles no more; take classes as they are, without proof."""

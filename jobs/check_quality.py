"""A table is checked against what is expected of it; results become ops.quality_results and a page.

A gate: exit code 3 where an expectation of level `error` does not hold, so whatever comes after it
in a pipeline does not run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.arguments import add_interval, asked_interval
from jobs.quality import load_early
from jobs.run import Run, parser, run_job
from jobs.table_checks import add_docs, check_table
from jobs.trip_rules import settle_timezone
from pipelines.errors import UsageError
from schemas import TABLES

JOB = "check_quality"

CHECKED = {t.name: t for t in TABLES if t.name.split(".")[0] in ("silver", "gold")}


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Check a table of a lake against what is expected of it.",
        "  spark-submit jobs/check_quality.py silver.trips --lake lake --start 2015-12-01 \\\n"
        "      --end 2015-12-02\n"
        "  exit code 0 where all is well or worth a warning at most, 3 where bad data must go no\n"
        "  further; every result goes to ops.quality_results, quality/TABLE.html shows them",
    )
    made.add_argument(
        "table", metavar="TABLE", choices=sorted(CHECKED), help=f"one of {', '.join(CHECKED)}"
    )
    add_interval(made, of="rows")
    add_docs(made)
    return made


def body(run: Run) -> Mapping[str, Any]:
    table = CHECKED[run.args.table]
    if (run.args.start, run.args.end) != (None, None):  # or all rows, of whatever time zones
        settle_timezone(run)
    interval = asked_interval(run.args)
    if interval and table.time is None:
        raise UsageError(f"{table.name} has no time by which --start and --end could choose rows")
    return check_table(run, table, interval)


def main(argv: Sequence[str] | None = None) -> int:
    load_early()
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

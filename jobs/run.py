"""The wrapper round every job: arguments, session, timed steps, versions, exit code, ops.runs.

A job is a parser and a body. The body takes a `Run`, does its work in named steps and returns the
fields that its JSON line has beyond the common ones::

    def main(argv=None):
        return run_job("count_trips", parser(), body, argv)

    def body(run: Run) -> dict[str, Any]:
        with run.step("count"):
            run.rows["trips"] = run.read(TRIPS).count()
        return {}

Logs and progress go to standard error; the summary goes to standard output, whose last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyspark
from pyspark import inheritable_thread_target
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.lake import Lake
from jobs.parsing import Parser
from jobs.redaction import redacted
from jobs.session import SetupError, code_version, open_session
from pipelines.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_USAGE,
    DataRefused,
    UsageError,
)
from schemas import RUNS, TABLES, SchemaMismatch, Table
from schemas.frames import frame_of

_OUTCOMES = {
    EXIT_DONE: "done",
    EXIT_FAILED: "failed",
    EXIT_USAGE: "usage",
    EXIT_REFUSED: "refused",
}


class Run:
    """What a job's body works with, and what is recorded of it in ops.runs."""

    def __init__(
        self,
        job: str,
        args: argparse.Namespace,
        spark: SparkSession,
        private: Collection[str] = (),
    ) -> None:
        self.job = job
        self.args = args
        self._private = private
        self.run_id: str = args.run_id
        self.spark = spark
        self.lake = Lake(spark, args.lake)
        self.rows: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.tables_in: dict[str, int] = {}
        self.tables_out: dict[str, int] = {}
        self._begun: Future[None] | None = None

    def begin(self) -> None:
        """Record the start while the job goes on; no write of its begins before that is done.

        The first commit takes seconds in a JVM that has just started, with one core at work.
        """
        record = inheritable_thread_target(self.spark)(_record)
        pool = ThreadPoolExecutor(1)
        self._begun = pool.submit(record, self, self.lake, "start", "running", None)
        pool.shutdown(wait=False)
        self.lake = Lake(self.spark, self.args.lake, after=self._begun)

    def begun(self) -> bool:
        """Whether there is a start, once it is there. Raises what recording it raised."""
        if self._begun is None:
            return False
        self._begun.result()
        return True

    def arguments(self) -> dict[str, Any]:
        """The arguments as they are recorded."""
        return {k: "***" if k in self._private else v for k, v in vars(self.args).items()}

    def recorded(self, error: str | None) -> str | None:
        """The error as it is recorded: not at all, where it may hold a private argument."""
        return "not recorded, for it may name a patient" if error and self._private else error

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a part of the work and show it; a name used again adds up."""
        log(f"{self.job}: {name} ...")
        start = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 3)
        log(f"{self.job}: {name} took {took:.1f} s")

    def read(self, table: Table) -> DataFrame:
        """Read a table pinned to its present version, and record which one it was."""
        version = self.lake.version(table)
        rows = self.lake.read(table, version)
        if version is not None:
            self.tables_in[table.name] = version
        return rows

    def read_pinned(self, table: Table) -> DataFrame:
        """The same at the version that this run read first, whoever has written to it since."""
        if table.name not in self.tables_in:
            return self.read(table)
        return self.lake.read(table, self.tables_in[table.name])

    def wrote(self, *tables: Table) -> None:
        """Record the version at which this run left the tables."""
        for table in tables:
            version = self.lake.version(table)
            if version is not None:
                self.tables_out[table.name] = version


def parser(description: str, example: str, **kwargs: Any) -> argparse.ArgumentParser:
    """A parser with what every job takes. `example` is a worked command line with its effect."""
    made = Parser(
        description=description,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **kwargs,
    )
    made.add_argument(
        "--lake",
        metavar="DIR",
        default=os.environ.get("LAKE", "./lake"),
        help="folder or URL of the tables (environment LAKE; default ./lake)",
    )
    made.add_argument(
        "--run-id",
        metavar="ID",
        default=os.environ.get("RUN_ID") or uuid.uuid4().hex,
        help="name of this run in ops.runs, from a scheduler (environment RUN_ID; default made)",
    )
    made.add_argument(
        "--evolve-schema",
        action="store_true",
        help="first add the columns that the lake's tables lack, made by an earlier version as "
        "they were (default: refuse such tables)",
    )
    return made


def run_job(
    job: str,
    arguments: argparse.ArgumentParser,
    body: Callable[[Run], Mapping[str, Any]],
    argv: Sequence[str] | None = None,
    *,
    private: Callable[[argparse.Namespace], Collection[str]] = lambda args: (),
) -> int:
    """Run a job's body inside the wrapper and return the process's exit code.

    The last line on standard output is one JSON object, whatever happens. `private` names the
    arguments whose values are not for ops.runs, such as a folder with the name of a patient.
    """
    start = time.perf_counter()
    try:
        args = arguments.parse_args(argv)
        if not args.lake or not args.run_id:
            raise UsageError("--lake and --run-id must not be empty")
        spark = open_session(f"roundtrip {job}")
    except (UsageError, SetupError) as e:
        log(f"{job}: {e}")
        code = EXIT_USAGE if isinstance(e, UsageError) else EXIT_FAILED
        line = {"job": job, "outcome": _OUTCOMES[code], "error": redacted(str(e))}
        print(json.dumps(line), flush=True)
        _report(line)
        return code
    spark.sparkContext.setLogLevel("ERROR")
    run = Run(job, args, spark, private(args))
    run.seconds["start"] = round(time.perf_counter() - start, 3)
    fields: Mapping[str, Any] = {}
    error: str | None = None
    try:
        run.lake.check_root()
        if args.evolve_schema:
            for table, columns in run.lake.evolve(TABLES).items():
                log(f"{job}: added {', '.join(columns)} to {table}")
        run.begin()
        fields = body(run)
        run.begun()
        code = EXIT_DONE
    except UsageError as e:
        code, error = EXIT_USAGE, str(e)
    except DataRefused as e:
        code, error = EXIT_REFUSED, str(e)
        fields = {"page": str(e.page)} if e.page else {}
    except SchemaMismatch as e:
        code, error = EXIT_FAILED, str(e)
    except KeyboardInterrupt:
        code, error = EXIT_FAILED, "interrupted"
    except Exception as e:
        if not _is_of_environment(e):
            log(traceback.format_exc())
        code, error = EXIT_FAILED, _first_line(e)
    if error is not None:
        error = redacted(error)
        log(f"{job}: {error}")
    run.seconds["total"] = round(time.perf_counter() - start, 3)
    try:
        if run.begun():
            _record(run, run.lake, "end", _OUTCOMES[code], error)
    except Exception as e:
        unrecorded = f"the end of this run could not be recorded in {RUNS.name}: {_first_line(e)}"
        log(f"{job}: {unrecorded}")
        code, error = code or EXIT_FAILED, error or redacted(unrecorded)
    outcome: dict[str, Any] = {
        "job": job,
        "run_id": run.run_id,
        "outcome": _OUTCOMES[code],
        **({"error": error} if error else {}),
        **fields,
        "rows": run.rows,
        "seconds": run.seconds,
        "tables_in": run.tables_in,
        "tables_out": run.tables_out,
    }
    print(json.dumps(outcome), flush=True)
    _report({**outcome, "error": run.recorded(error)} if error else outcome)
    return code


def log(text: str) -> None:
    """Progress and errors, for people: standard error."""
    print(redacted(text), file=sys.stderr, flush=True)


def _report(line: Mapping[str, Any]) -> None:
    """Tell the same to Dagster, where a step of its launched this process."""
    if "DAGSTER_PIPES_CONTEXT" not in os.environ:
        return
    from dagster_pipes import open_dagster_pipes  # where it launches, it is installed

    with open_dagster_pipes() as pipes:
        pipes.report_custom_message(line)


def _first_line(error: BaseException) -> str:
    """What went wrong: for an exception from Java what is at the bottom of it."""
    causes = _java_causes(error)
    text = str(causes[-1].toString() if causes else error).strip() or type(error).__name__
    return text.splitlines()[0]


def _is_of_environment(error: BaseException) -> bool:
    """Whether it is the machine that failed, as with a full disk: a stack trace is no help then."""
    return isinstance(error, OSError) or any(
        "IOException" in _java_classes(cause) for cause in _java_causes(error)
    )


def _java_causes(error: BaseException) -> list[Any]:
    """The Java exception behind an error, and what caused it, the deepest last."""
    cause = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    causes: list[Any] = []
    while cause is not None and len(causes) < 50:
        causes.append(cause)
        cause = cause.getCause()
    return causes


def _java_classes(exception: Any) -> set[str]:
    """Simple names of an exception's class and those above it."""
    names, java_class = set(), exception.getClass()
    while java_class is not None:
        names.add(java_class.getSimpleName())
        java_class = java_class.getSuperclass()
    return names


def _record(run: Run, lake: Lake, event: str, outcome: str, error: str | None) -> None:
    arguments = redacted(json.dumps(run.arguments(), default=str, sort_keys=True))
    versions = {
        "roundtrip": code_version(),
        "spark": pyspark.__version__,
        "python": platform.python_version(),
        "java": run.spark.sparkContext._jvm.java.lang.System.getProperty("java.version"),  # type: ignore[union-attr]
    }
    end = event == "end"
    values = (
        run.run_id,
        run.job,
        event,
        datetime.now(UTC),
        outcome,
        arguments,
        versions,
        run.tables_in if end else None,
        run.tables_out if end else None,
        run.rows if end else None,
        run.seconds if end else None,
        run.recorded(error),
    )
    row = frame_of(run.spark, [values], RUNS.struct)
    lake.append(RUNS, row.select(*[F.col(c.name) for c in RUNS.columns]))

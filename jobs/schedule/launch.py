"""One job under spark-submit, as a step of Dagster's.

The job runs as it would from cron; Dagster Pipes brings back the JSON object of its last line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from jobs.run import EXIT_DONE, EXIT_FAILED, EXIT_REFUSED

JOBS = Path(__file__).resolve().parents[1]
POOL = "spark"
"""Steps of this pool run one at a time, see dagster.yaml."""

# A job that failed may find the machine in a better state; what was refused, or asked for wrongly,
# would be so again.
RETRY = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)

_SECONDS_TO_END = 60


def launch(
    context: dg.AssetExecutionContext,
    job: str,
    *arguments: str,
    of: str = "",
    may_be_refused: bool = False,
) -> dict[str, Any]:
    """Run `jobs/JOB.py` to its end and return the object of its last line.

    `of` tells apart the runs of one job in one step, such as the checks of several tables. Raises
    dagster.Failure where it fails, and where it is refused, unless that is to be told by the
    outcome alone.
    """
    with dg.open_pipes_session(
        context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()
    ) as session:
        run_id = _run_id(context, f"{job}-{of}" if of else job)
        env = {**os.environ, **session.get_bootstrap_env_vars(), "RUN_ID": run_id}
        process = subprocess.Popen(
            [_spark_submit(), str(JOBS / f"{job}.py"), *arguments],
            env=env,
            start_new_session=True,  # so that Java ends with it, see below
        )
        code = _wait(process)
    messages = session.get_custom_messages()
    line: dict[str, Any] = messages[-1] if messages else {}
    if code == EXIT_DONE or (code == EXIT_REFUSED and may_be_refused):
        return line
    raise dg.Failure(
        description=f"{job} ended with exit code {code}: {line.get('error', 'see its log')}",
        metadata=metadata(line),
        allow_retries=code == EXIT_FAILED or code < 0,
    )


def metadata(line: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagster's page shows of a job: its rows, seconds, versions, and where its own page is.

    Numbers stand alone, so that they can be plotted over time. The page is shown as a path: a
    browser follows no link from a web page to a file.
    """
    shown: dict[str, Any] = {}
    for name in ("error", "quality", "expectations"):
        if line.get(name):
            shown[name] = line[name]
    if line.get("not_met"):
        shown["not_met"] = dg.MetadataValue.md("\n".join(f"- {said}" for said in line["not_met"]))
    if line.get("page"):
        shown["page"] = dg.MetadataValue.path(line["page"])
    shown |= {f"rows/{name}": count for name, count in line.get("rows", {}).items()}
    if "total" in line.get("seconds", {}):
        shown["seconds"] = line["seconds"]["total"]
    for name in ("days", "tables_in", "tables_out"):
        if line.get(name):
            shown[name] = dg.MetadataValue.json(line[name])
    if line.get("run_id"):
        shown["run_id"] = line["run_id"]
    return shown


def _run_id(context: dg.AssetExecutionContext, what: str) -> str:
    """The run of Dagster's, with what is run and the attempt: in ops.runs each is a run."""
    return f"{context.run.run_id}-{what}-{context.retry_number}"


def _spark_submit() -> str:
    beside = Path(sys.executable).with_name("spark-submit")
    found = str(beside) if beside.exists() else shutil.which("spark-submit")
    if found is None:
        raise dg.Failure(
            f"no spark-submit beside {sys.executable} or on PATH: run `make setup`",
            allow_retries=False,
        )
    return found


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code. Where the step is stopped, so is the job, with everything that it started."""
    try:
        return process.wait()
    except BaseException:
        _signal(process, signal.SIGINT)
        try:
            process.wait(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
        raise


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

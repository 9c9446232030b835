"""What the jobs that train do with a run: check that it fits, start its ranks, record it."""

from __future__ import annotations

import argparse
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from pyspark.sql import functions as F

from jobs import amounts
from jobs.locks import locked
from jobs.run import Run, log
from jobs.run_metrics import MetricsCarrier
from jobs.session import code_version
from ml.recipe import Recipe
from ml.training import runs
from ml.training.runs import RunFolder, Source, TrainingRun, runs_of_lake
from pipelines.errors import EXIT_REFUSED, EXIT_USAGE, DataRefused, UsageError
from schemas import ML_RUNS, TOKEN_IDS, VLM_EXAMPLES, VQA_EXAMPLES
from schemas.frames import frame_of

_TABLES = {"captions": VLM_EXAMPLES, "vqa": VQA_EXAMPLES}
_LIBRARIES = ("torch", "deepspeed", "transformers", "peft", "timm")
_WORKER = "ml.training.worker"


class Stopped(RuntimeError):
    """The ranks were told to stop and did, with a checkpoint."""


def add_launch_arguments(made: argparse.ArgumentParser) -> None:
    """How ranks are started, and where runs lie."""
    made.add_argument(
        "--launch",
        choices=("local", "cluster"),
        default="local",
        help="where ranks run: on the driver's machine, or in tasks of Spark (default local)",
    )
    made.add_argument("--use-gpu", action="store_true", help="give each rank a GPU")
    made.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="folder for runs, which all ranks share (default: LAKE/.runs)",
    )
    made.add_argument(
        "--feed-cache",
        type=Path,
        metavar="DIR",
        help="folder on each machine that keeps what was read of a remote lake (default: none)",
    )
    made.add_argument(
        "--device-memory",
        type=amounts.memory_bytes,
        metavar="SIZE",
        help="what each rank has, such as 40GB, for the check before the start (default: this "
        "machine's; with --launch cluster there is no check without it)",
    )
    made.add_argument(
        "--force", action="store_true", help="start even what seems too large for the memory"
    )


def runs_folder(run: Run) -> Path:
    """Where the runs of the job's lake lie. Raises UsageError where that has to be said."""
    return run.args.runs.absolute() if run.args.runs else runs_of_lake(run.lake.root)


def feed_cache(run: Run) -> str | None:
    """The folder for what ranks read of remote tables, where one was named."""
    return str(run.args.feed_cache.absolute()) if run.args.feed_cache else None


def processes_of(count: int) -> int:
    """A number of ranks. Raises UsageError."""
    if count < 1:
        raise UsageError(f"--num-processes {count}: must be 1 or more")
    return count


def sources_of(run: Run, recipe: Recipe) -> dict[str, Source]:
    """The tables that a recipe trains from, at the versions that this job read first.

    Also gold.token_ids where the lake has it.
    """
    kinds: dict[str, None] = dict.fromkeys(stage.data for stage in recipe.stages)
    sources = {}
    for kind in kinds:
        table = _TABLES[kind]
        run.read_pinned(table)
        sources[kind] = Source(table.name, run.lake.path(table), run.tables_in[table.name])
    version = run.lake.version(TOKEN_IDS)
    if version is not None:
        # Not read here: ranks do without where it is of another tokenizer, or of an older version.
        sources[runs.TOKEN_IDS] = Source(TOKEN_IDS.name, run.lake.path(TOKEN_IDS), version)
    return sources


def versions_here() -> dict[str, str]:
    """Versions of the code, of Python and of the libraries that numbers depend on."""
    found = {name: version(name) for name in _LIBRARIES}
    return {"roundtrip": code_version(), "python": platform.python_version(), **found}


def check_memory(run: Run, training: TrainingRun) -> None:
    """Raise UsageError where the memory planner says that the run does not fit."""
    from ml.memory.plan import device_memory, plan_of

    args = run.args
    if args.launch == "cluster" and args.device_memory is None:
        log(f"{run.job}: whether it fits is not known: --device-memory says what each rank has")
        return
    cpu = not args.use_gpu
    memory = args.device_memory or device_memory(training.processes if cpu else 1, cpu=cpu)
    here = not cpu and args.launch == "local"
    plan = plan_of(
        training.recipe,
        processes=training.processes,
        device_bytes=memory,
        cpu=cpu,
        host_bytes=device_memory(training.processes, cpu=True) if here else None,
    )
    if not plan.fits:
        raise UsageError(f"it does not fit: {plan.nearest}; --force starts it all the same")


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """SIGTERM as Ctrl-C: ranks are told to stop, and the end is recorded."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def train(run: Run, training: TrainingRun, folder: RunFolder) -> None:
    """Start a run's ranks, or start them again, and see to their end; ml.runs has both.

    Raises UsageError where another process trains it, and where a rank says that an argument is
    wrong; DataRefused, Stopped, RankFailed.
    """
    busy = f"another process is training {folder.path}: end that one first"
    with locked(folder.path / "lock", busy):
        folder.write(training)
        run.tables_in.update(training.table_versions)
        _record(run, training, folder, "resume" if training.attempt else "start", "running")
        log(f"{run.job}: run {training.run_id} in {folder.path}")
        with run.step("train"):
            _launch(run, training, folder)


def is_recorded(run: Run, folder: RunFolder) -> bool:
    """Whether ml.runs says how the ranks of a run ended, as they themselves have said."""
    ended = folder.read_end()
    of_run = F.col("run_id") == folder.read().run_id
    rows = run.lake.read(ML_RUNS).where(of_run).orderBy(F.desc("at")).limit(1).collect()
    return ended is not None and bool(rows) and rows[0]["outcome"] == ended.outcome


def record_end(run: Run, folder: RunFolder) -> None:
    """Carry and record what a driver that was cut off left of a run whose ranks had ended."""
    training, ended = folder.read(), folder.read_end()
    assert ended is not None
    with locked(folder.path / "lock", f"another process is training {folder.path}"):
        run.tables_in.update(training.table_versions)
        MetricsCarrier(run.lake, training.run_id, folder).carry()
        _record(run, training, folder, "end", ended.outcome)
    log(f"{run.job}: run {training.run_id} had ended, {ended.outcome}, and is recorded now")


def _launch(run: Run, training: TrainingRun, folder: RunFolder) -> None:
    from ml.training.launch import launch
    from ml.training.rank_failure import RankFailed

    args = run.args
    carrier = MetricsCarrier(run.lake, training.run_id, folder)
    outcome: Literal["done", "paused", "stopped", "failed"] = "failed"
    error: str | None = None
    try:
        with _ended_by_signal(), carrier.meanwhile():
            launch(
                run.spark,
                _WORKER,
                [str(folder.path)],
                processes=training.processes,
                mode=args.launch,
                use_gpu=args.use_gpu,
            )
        ended = folder.read_end()
        if ended is None:
            raise RuntimeError("the ranks ended without a word")
        outcome = ended.outcome
        if outcome == "stopped":
            error = (
                f"stopped; --resume {training.run_id} goes on from checkpoint {ended.checkpoint}"
            )
            raise Stopped(error)
    except RankFailed as e:
        error = str(e).splitlines()[0]
        if e.exit_code == EXIT_USAGE:
            raise UsageError(_last_line(e.error)) from e
        if e.exit_code == EXIT_REFUSED:
            raise DataRefused(_last_line(e.error)) from e
        raise
    except KeyboardInterrupt:
        outcome, error = "stopped", f"interrupted; --resume {training.run_id} goes on"
        raise
    except Exception as e:
        error = error or str(e).splitlines()[0]
        raise
    finally:
        _record(run, training, folder, "end", outcome, error)


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def figures_of(folder: RunFolder) -> dict[str, Any]:
    """Size of the model, steps, time and memory of the run, as far as they are known."""
    rows, _ = folder.metrics()
    ended = folder.read_end()
    return {
        "parameters": ended.parameters if ended else None,
        "trained_parameters": ended.trained_parameters if ended else None,
        "steps": len(rows),
        "training_seconds": sum(row["seconds"] for row in rows),
        "peak_bytes": max((row["peak_bytes"] for row in rows), default=None),
    }


def _record(
    run: Run,
    training: TrainingRun,
    folder: RunFolder,
    event: str,
    outcome: str,
    error: str | None = None,
) -> None:
    """Add a row to ml.runs."""
    figures = figures_of(folder)
    row = {
        "run_id": training.run_id,
        "at": datetime.now(UTC),
        "event": event,
        "outcome": outcome,
        "recipe": training.recipe.name,
        "recipe_json": training.recipe.to_json(),
        "versions": dict(training.versions),
        "tables_in": training.table_versions,
        "folder": str(folder.path),
        "processes": training.processes,
        "zero_stages": [stage.zero_stage for stage in training.recipe.stages],
        "seconds": figures.pop("training_seconds"),
        **figures,
        "error": error,
    }
    names = [column.name for column in ML_RUNS.columns]
    values = [row[name] for name in names]
    run.lake.append(ML_RUNS, frame_of(run.spark, [values], ML_RUNS.struct))

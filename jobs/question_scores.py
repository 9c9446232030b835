"""The part of jobs/evaluate_vlm.py that is about questions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import functions as F

from jobs.evaluation import Evaluation, interval_text
from jobs.models_in_tasks import computed_once
from jobs.run import log
from jobs.vlm_answers import answered, answered_without_model, asked_of_model
from ml.evaluation.controls import Asked, Majority, Retrieval, swapped
from ml.evaluation.scores import METRICS
from ml.evaluation.summary import SCORE, Score, question_scores
from pipelines.figures.prompts import columns_of
from pipelines.figures.templates import built_in_templates, template
from schemas import PREDICTIONS
from schemas.ml import CONTROLS, MODEL_CONTROLS

_SHOWN = ("strict", "substring", "recall", "f1", "exact", "bleu", SCORE)
"""Metrics of the table on the screen."""


def score_questions(of: Evaluation, template_name: str) -> dict[str, Any]:
    """Answer, write ml.predictions, score what is there, write ml.scores; fields of the summary."""
    run, at = of.run, of.at
    prompt, _ = columns_of(template(built_in_templates(), "vqa", template_name))
    with run.step("prepare controls"):
        training = at.training.orderBy("order_key").select(*Asked._fields, "image_id").toArrow()
        known = [Asked(*row) for row in zip(*(training[f].to_pylist() for f in Asked._fields),
                                            strict=True)]  # fmt: skip
        groups = at.rows.select("image_id", "group_id").distinct().toArrow()
        group_of = dict(zip(groups["image_id"].to_pylist(), groups["group_id"].to_pylist(),
                            strict=True))  # fmt: skip
        pairs = swapped(group_of)
        count = at.rows.count()
    controls = [c for c in MODEL_CONTROLS if c == "image" or c in run.args.controls]
    if "swapped" in controls and not pairs:
        log("all images are of one group: there is none to swap with")
        controls.remove("swapped")
    asked = asked_of_model(at.rows, prompt, pairs, controls)
    rows = answered(asked, of.place, of.partitions(count * len(controls))).unionByName(
        answered_without_model(at.rows, Majority(known), Retrieval(known))
    )
    shared = {name: F.lit(value) for name, value in of.identity.items()}
    shared |= {"table_version": F.lit(at.version).cast("bigint"), "at": F.lit(datetime.now(UTC))}
    with run.step("answer questions"), computed_once(rows.withColumns(shared)) as predictions:
        run.lake.replace(PREDICTIONS, predictions, of.where)
    with run.step("score answers"):
        columns = ["control", "example_id", "image_id", "modality", "question_type", *METRICS]
        written = run.lake.read(PREDICTIONS).where(of.where).select(*columns)
        scores = question_scores(written.toArrow().to_pandas())
        of.write_scores(scores)
    run.rows["questions"] = count
    run.rows["predictions"] = count * (len(controls) + 2)
    seen = len(group_of.keys() & set(training["image_id"].to_pylist()))
    _print(of, scores, count, len(group_of), seen)
    return {
        "split_by": at.split_by,
        "split": at.split,
        "images": len(group_of),
        "images_in_training": seen,
        "scores": {
            control: {s.metric: round(s.score, 6) for s in scores
                      if s.group == "all" and s.control == control}
            for control in dict.fromkeys(s.control for s in scores)
        },
    }  # fmt: skip


def _print(of: Evaluation, scores: Sequence[Score], questions: int, images: int, seen: int) -> None:
    every = {(s.control, s.metric): s for s in scores if s.group == "all"}
    wide = 20
    print(
        f"\n{of.trained.recipe.name}, run {of.trained.run_id}: {questions:,} questions on "
        f"{images:,} images of {of.at.table.name} version {of.at.version}, {of.at.split_by} "
        f"{of.at.split}"
    )
    if seen:
        print(f"{seen:,} of the images are in training too, with other questions")
    print("per cent, with 95 % intervals by image\n")
    print(f"{'':<22}" + "".join(f"{metric:>{wide}}" for metric in _SHOWN))
    for control in (*CONTROLS, *(f"image minus {c}" for c in CONTROLS[1:])):
        row = [every.get((control, metric)) for metric in _SHOWN]
        if any(row):
            cells = "".join(f"{interval_text(s) if s else '':>{wide}}" for s in row)
            print(f"{control:<22}{cells}")
    counts = {m: s.n for (c, m), s in every.items() if c == "image"}
    print(f"{'n':<22}" + "".join(f"{counts.get(metric, 0):>{wide},}" for metric in _SHOWN) + "\n")

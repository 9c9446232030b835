"""The prototypes compared: ml.leaderboard, and a page of who is better and by how much.

Runs whose recipes differ in seed and fold alone are one prototype. Of each run and way to split
its latest evaluation counts, unless --limit cut it short.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.leaderboard_story import curves_of, samples_of
from jobs.run import Run, log, parser, run_job
from ml.evaluation.scores import METRICS as METRIC_NAMES
from ml.evaluation.summary import SCORE
from ml.leaderboard.page import leaderboard_page
from ml.leaderboard.ranking import Entry, TrainedModel, entry_of, prototype_of, ranked
from ml.leaderboard.story import Board, with_interval
from ml.recipe import checked
from pipelines.errors import UsageError
from pipelines.files import write_whole
from schemas import FIGURES, LEADERBOARD, METRICS, ML_RUNS, PREDICTIONS
from schemas.frames import frame_of
from schemas.ml import CONTROLS

JOB = "leaderboard"
_ANSWERS = ("run_id", "split", "control", "example_id", "image_id", "modality", "question_type",
            *METRIC_NAMES)  # fmt: skip


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Rank the prototypes that were evaluated, and draw a page.",
        "  spark-submit jobs/leaderboard.py --lake lake --page leaderboard.html\n"
        "  puts folds and seeds of each prototype together, ranks them with intervals by image in\n"
        "  ml.leaderboard, and draws scores, curves, cost, samples and the worst cases",
    )
    made.add_argument(
        "--page",
        type=Path,
        default=Path("leaderboard.html"),
        metavar="FILE",
        help="the page (default ./leaderboard.html)",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    run.lake.check(ML_RUNS, METRICS, PREDICTIONS, LEADERBOARD)
    for table, job in ((ML_RUNS, "train_vlm"), (PREDICTIONS, "evaluate_vlm")):
        if not run.lake.exists(table):
            raise UsageError(
                f"{table.name} is not in {run.lake.root}: run jobs/{job}.py first, or check --lake"
            )
    answers = _latest(run.read(PREDICTIONS))
    with run.step("rank"):
        models = _models(run)
        groups = _groups(answers, models)
        run.lake.replace(LEADERBOARD, _rows(run, groups), "true")
    run.wrote(LEADERBOARD)
    with run.step("draw"):
        samples, worst = samples_of(run, groups[0][0], answers)
        made = run.lake.exists(FIGURES) and not run.lake.read(FIGURES).where(
            F.col("fields")["made"] == "true"
        ).isEmpty()  # fmt: skip
        curves = curves_of(run.read(METRICS), groups) if run.lake.exists(METRICS) else ()
        versions = {**run.tables_in, **run.tables_out}
        board = Board(groups, curves, samples, worst, versions, made)
        page = leaderboard_page(board).encode()
        write_whole(run.args.page, lambda out: out.write(page))
    _print(groups, run.args.page)
    run.rows["prototypes"] = len({e.prototype for group in groups for e in group})
    run.rows["runs"] = len({r.run_id for group in groups for e in group for r in e.runs})
    return {
        "page": str(run.args.page),
        "first": {"recipe": groups[0][0].name, "score": round(groups[0][0].score.score, 6)},
    }


def _latest(predictions: DataFrame) -> DataFrame:
    """Whole evaluations, the latest of each run, split and version of the table."""
    whole = predictions.where(~F.col("split").contains("["))
    newest = Window.partitionBy("run_id", "split_by", "split").orderBy(F.col("at").desc())
    evaluations = (
        whole.groupBy("run_id", "split_by", "split", "checkpoint")
        .agg(F.max("at").alias("at"))
        .withColumn("rank", F.row_number().over(newest))
        .where("rank = 1")
        .drop("rank", "at")
    )
    keys = ["run_id", "split_by", "split", "checkpoint"]
    return whole.join(F.broadcast(evaluations), keys, "left_semi")


def _models(run: Run) -> dict[str, TrainedModel]:
    """Every run, by its latest row."""
    newest = Window.partitionBy("run_id").orderBy(F.col("at").desc())
    rows = run.read(ML_RUNS).withColumn("rank", F.row_number().over(newest)).where("rank = 1")
    return {
        row["run_id"]: TrainedModel(
            run_id=row["run_id"],
            recipe=checked(json.loads(row["recipe_json"]), f"recipe of run {row['run_id']}"),
            parameters=row["parameters"],
            trained_parameters=row["trained_parameters"],
            processes=row["processes"],
            zero_stages=tuple(row["zero_stages"]),
            steps=row["steps"],
            seconds=row["seconds"],
            peak_bytes=row["peak_bytes"],
            tables_in=dict(row["tables_in"] or {}),
        )
        for row in rows.collect()
    }


def _groups(answers: DataFrame, models: Mapping[str, TrainedModel]) -> list[list[Entry]]:
    """Entries that may be compared, the largest group first. UsageError where there are none."""
    evaluated = answers.select("run_id", "split_by", "table_version").distinct().collect()
    runs: dict[tuple[str, int], dict[str, list[TrainedModel]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in evaluated:
        if row["run_id"] not in models:
            log(f"run {row['run_id']} is in {PREDICTIONS.name} and not in {ML_RUNS.name}: left out")
            continue
        model = models[row["run_id"]]
        runs[row["split_by"], row["table_version"]][prototype_of(model.recipe)].append(model)
    entries: list[tuple[Entry, pd.DataFrame]] = []
    for (split_by, version), prototypes in runs.items():
        for prototype, of_prototype in sorted(prototypes.items()):
            mine = answers.where(
                (F.col("split_by") == split_by)
                & (F.col("table_version") == version)
                & F.col("run_id").isin([model.run_id for model in of_prototype])
            )
            rows = mine.select(*_ANSWERS).toArrow().to_pandas()
            made = entry_of(prototype, of_prototype, rows, split_by=split_by, table_version=version)
            entries.append((made, rows[rows["control"] == "image"]))
    if not entries:
        raise UsageError(
            f"{PREDICTIONS.name} has no whole evaluation: run jobs/evaluate_vlm.py without --limit "
            "first"
        )
    return ranked(entries)


def _rows(run: Run, groups: Sequence[Sequence[Entry]]) -> DataFrame:
    at = datetime.now(UTC)
    rows = [_row(entry) | {"at": at} for group in groups for entry in group]
    names = [c.name for c in LEADERBOARD.columns]
    return frame_of(run.spark, [[row[name] for name in names] for row in rows], LEADERBOARD.struct)


def _row(e: Entry) -> dict[str, Any]:
    """Its columns in ml.leaderboard, `at` apart."""
    largest = max(e.runs, key=lambda model: model.peak_bytes or 0)
    seconds = [model.seconds for model in e.runs if model.seconds is not None]
    row: dict[str, Any] = {
        "place": e.place,
        "prototype": e.prototype,
        "recipe": e.name,
        "runs": [model.run_id for model in e.runs],
        "table_version": e.table_version,
        "split_by": e.split_by,
        "splits": list(e.splits),
        "seeds": e.seeds,
        "questions": e.questions,
        "seed_deviation": e.seed_deviation,
        "parameters": largest.parameters,
        "trained_parameters": largest.trained_parameters,
        "processes": max(model.processes for model in e.runs),
        "seconds": sum(seconds) / len(seconds) if seconds else None,
        "peak_bytes": largest.peak_bytes,
        "tables_in": dict(largest.tables_in),
    }
    named = {
        ("score", "score_"): e.score,
        ("closed_strict", "closed_"): e.find("image", "strict"),
        ("open_f1", "open_"): e.find("image", "f1"),
        ("behind_first", "behind_"): e.behind,
    }
    named |= {(f"over_{c}", f"over_{c}_"): e.find(f"image minus {c}", SCORE) for c in CONTROLS[1:]}
    for (name, prefix), score in named.items():
        row |= {
            name: score.score if score else None,
            f"{prefix}low": score.low if score else None,
            f"{prefix}high": score.high if score else None,
        }
    return row


def _print(groups: Sequence[Sequence[Entry]], page: Path) -> None:
    for group in groups:
        first = group[0]
        rows = f"{first.split_by} ({', '.join(first.splits)}), version {first.table_version}"
        print(f"\nby {rows}; per cent, 95 % by image")
        named = "".join(f"{n:>22}" for n in ("score", "closed", "open F1", "over no image"))
        print(f"{'':>3} {'prototype':<28}{named}")
        for e in group:
            shown = (
                e.score,
                e.find("image", "strict"),
                e.find("image", "f1"),
                e.find("image minus no_image", SCORE),
            )
            cells = "".join(f"{with_interval(s) if s else '':>22}" for s in shown)
            print(f"{e.place:>3} {e.name:<28}{cells}")
    print(f"page: {page}\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

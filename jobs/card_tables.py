"""What the lake's tables tell of a trained model, for its card.

What is not there, because it never was or is no more, is left out: the card says so.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.evaluated_rows import is_gone, is_training
from jobs.run import Run, log
from ml.evaluation.summary import Score
from ml.models.card import Evaluated, Known, Placed, StageTrained, TrainedOn
from ml.recipe import checked
from pipelines.errors import UsageError
from schemas import (
    FIGURE_IMAGES,
    FIGURES,
    LEADERBOARD,
    METRICS,
    ML_RUNS,
    SCORES,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
    Table,
)
from schemas.ml import CONTROLS

_IMAGE_ID = {VLM_EXAMPLES.name: "example_id", VQA_EXAMPLES.name: "image_id"}


def known_of(run: Run, run_id: str | None, checkpoint: str) -> Known:
    """What is known of a training run, and of the weights of one of its checkpoints."""
    row = _latest(run, run_id)
    if row is None:
        return Known()
    counts, images = _trained_on(run, row)
    return Known(
        run=row,
        trained_on=counts,
        stages=_stages(run, row["run_id"]),
        evaluated=_evaluated(run, row["run_id"], checkpoint),
        placed=_placed(run, row["run_id"]),
        licences=_licences(run, images),
    )


def _there(run: Run, table: Table) -> DataFrame | None:
    return run.read(table) if run.lake.exists(table) else None


def _latest(run: Run, run_id: str | None) -> dict[str, Any] | None:
    """The latest row of ml.runs."""
    runs = _there(run, ML_RUNS)
    if runs is None or run_id is None:
        return None
    rows = runs.where(F.col("run_id") == run_id).orderBy(F.desc("at")).limit(1).collect()
    return rows[0].asDict(recursive=True) if rows else None


def _trained_on(run: Run, row: Mapping[str, Any]) -> tuple[tuple[TrainedOn, ...], list[DataFrame]]:
    """Tables with rows for training, and the ids of their images, as the run read them."""
    data = checked(json.loads(row["recipe_json"]), f"recipe of run {row['run_id']}").data
    tables, images = [], []
    for name, version in sorted((row["tables_in"] or {}).items()):
        if name not in _IMAGE_ID:  # gold.token_ids has no examples of its own
            continue
        count = None
        try:
            rows, _ = run.lake.read_other(name, version)
            ids = rows.where(is_training(data)).select(F.col(_IMAGE_ID[name]).alias("example_id"))
            count = ids.count()
        except Exception as e:
            if not isinstance(e, UsageError) and not is_gone(e):
                raise
            log(f"version {version} of {name} is gone: the card does not count its rows")
        else:
            run.tables_in[name] = version
            images.append(ids)
        tables.append(TrainedOn(name, version, count))
    return tuple(tables), images


def _stages(run: Run, run_id: str) -> tuple[StageTrained, ...]:
    metrics = _there(run, METRICS)
    if metrics is None:
        return ()
    rows = metrics.where(F.col("run_id") == run_id).groupBy("stage").agg(
        F.count("*").alias("steps"),
        F.max("examples").alias("examples"),
        F.sum("tokens").alias("tokens"),
        _last("loss"),
        _last("validation_loss"),
    )  # fmt: skip
    return tuple(StageTrained(*row) for row in rows.collect())


def _last(column: str) -> Any:
    """Of the last step that has it."""
    return F.max_by(column, F.when(F.col(column).isNotNull(), F.col("step"))).alias(column)


def _evaluated(run: Run, run_id: str, checkpoint: str) -> tuple[Evaluated, ...]:
    """Whole evaluations of these weights."""
    scores = _there(run, SCORES)
    if scores is None:
        return ()
    of_checkpoint = (F.col("run_id") == run_id) & (F.col("checkpoint") == checkpoint)
    whole = (F.col("group") == "all") & ~F.col("split").contains("[")
    found: dict[tuple[str, int, str, str], list[Score]] = defaultdict(list)
    for row in scores.where(of_checkpoint & whole).collect():
        of = (row["table_name"], row["table_version"], row["split_by"], row["split"])
        found[of].append(Score(**{name: row[name] for name in Score.__annotations__}))
    return tuple(Evaluated(*of, tuple(_sorted(of_rows))) for of, of_rows in sorted(found.items()))


def _sorted(scores: Iterable[Score]) -> list[Score]:
    order = [*CONTROLS, *(f"image minus {control}" for control in CONTROLS[1:])]
    return sorted(scores, key=lambda score: (order.index(score.control), score.metric))


def _placed(run: Run, run_id: str) -> tuple[Placed, ...]:
    board = _there(run, LEADERBOARD)
    if board is None:
        return ()
    rows = board.drop("tables_in", "at").collect()
    same = Counter(map(_tested_on, rows))
    return tuple(
        Placed(
            place=row["place"],
            of=same[_tested_on(row)],
            split_by=row["split_by"],
            table_version=row["table_version"],
            runs=len(row["runs"]),
            score=row["score"],
            low=row["score_low"],
            high=row["score_high"],
        )
        for row in rows
        if run_id in row["runs"]
    )


def _tested_on(row: Row) -> tuple[str, int, tuple[str, ...]]:
    return row["split_by"], row["table_version"], tuple(row["splits"])


def _licences(run: Run, images: list[DataFrame]) -> dict[str, int] | None:
    """How many figures there are under each licence, the most frequent first; "" is none stated.

    None where the figures are not all there: those of bronze have a retention of their own.
    """
    parts, figures = _there(run, FIGURE_IMAGES), _there(run, FIGURES)
    if not images or parts is None or figures is None:
        return None
    trained = reduce(DataFrame.union, images).where("example_id IS NOT NULL").distinct()
    ids = trained.join(parts.select("example_id", "figure_id"), "example_id", "left")
    stated = figures.select("figure_id", F.coalesce("licence", F.lit("")).alias("licence"))
    found = ids.select("figure_id").distinct().join(stated, "figure_id", "left")
    counts = found.groupBy("licence").count().orderBy(F.desc("count"), "licence").collect()
    by_licence = {row["licence"]: row["count"] for row in counts}
    return None if None in by_licence or not by_licence else by_licence

"""From one score a question to means with intervals: of all, by modality, by question type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.evaluation.bootstrap import intervals
from ml.evaluation.scores import METRICS

SCORE = "score"
"""Of any question: strict where it is closed, else F1."""
GROUPS = ("modality", "question_type")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Score:
    """A mean, and the ends of its 95 % interval; None where nothing can be told of them."""

    control: str
    metric: str
    group: str
    value: str
    n: int
    score: float
    low: float | None
    high: float | None


def question_scores(predictions: pd.DataFrame) -> list[Score]:
    """Scores of every control and metric, and of the image's difference to each other control.

    `predictions` has a row for each question and control, with the columns example_id, image_id,
    control, modality, question_type and METRICS, and run_id where several runs answered.
    Differences are of the same questions in the same run, so their intervals are paired, and a run
    without a control counts in no difference to it.
    """
    rows = with_score(predictions)
    found: list[Score] = []
    for group in ("all", *GROUPS):
        value = rows[group].fillna(UNKNOWN) if group != "all" else pd.Series("all", rows.index)
        for name, of_value in rows.groupby(value):
            found += _scores(of_value, group, str(name))
    return found


def with_score(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same with a column SCORE."""
    score = predictions["strict"].astype(float).fillna(predictions["f1"].astype(float))
    return predictions.assign(**{SCORE: score})


def by_question(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each question that has the metric, a column for each control.

    Where several runs answered a question it has their mean.
    """
    return _wide(rows, metric, ["example_id"])


def _wide(rows: pd.DataFrame, metric: str, index: list[str]) -> pd.DataFrame:
    wide = rows.pivot_table(
        index=index, columns="control", values=metric, aggfunc="mean", dropna=True
    )
    return wide.astype(float)


def _scores(rows: pd.DataFrame, group: str, value: str) -> Iterator[Score]:
    image_of = rows.groupby("example_id")["image_id"].first()
    columns: dict[tuple[str, str], pd.Series] = {}
    of_a_run = ["run_id", "example_id"] if "run_id" in rows else ["example_id"]
    for metric in (*METRICS, SCORE):
        if rows[metric].isna().all():
            continue
        wide = by_question(rows, metric)
        columns |= {(str(control), metric): wide[control] for control in wide}
        if "image" in wide:
            by_run = _wide(rows, metric, of_a_run)
            for control in wide.columns.drop("image"):
                difference = (by_run["image"] - by_run[control]).dropna()
                if len(difference):
                    mean = difference.groupby("example_id").mean()
                    columns[f"image minus {control}", metric] = mean
    table = pd.DataFrame(columns).reindex(image_of.index)
    values = table.to_numpy(float)
    ends = intervals(values, image_of.to_numpy())
    for k, (control, metric) in enumerate(columns):
        known = values[:, k][~np.isnan(values[:, k])]
        if len(known):
            low, high = (None if np.isnan(end) else float(end) for end in ends[k])
            yield Score(control, metric, group, value, len(known), float(known.mean()), low, high)

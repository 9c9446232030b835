"""Scores of controls, and what the image adds, over several runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ml.evaluation.scores import METRICS
from ml.evaluation.summary import SCORE, question_scores


def rows(run_id: str, control: str, score: float, questions: range) -> list[dict[str, object]]:
    """Closed questions, one an image, all with one score."""
    return [
        {
            "run_id": run_id, "control": control, "example_id": i, "image_id": i,
            "modality": "ct", "question_type": "PRES", **dict.fromkeys(METRICS, np.nan),
            "strict": score,
        }
        for i in questions
    ]  # fmt: skip


def test_what_the_image_adds_is_of_the_runs_that_have_the_control() -> None:
    """Seed a alone was asked without the image as well, and the image adds 0.4 there."""
    both = range(10)
    answers = rows("a", "image", 0.5, both) + rows("a", "no_image", 0.1, both)
    answers += rows("b", "image", 0.9, both)
    found = {(s.control, s.metric): s for s in question_scores(pd.DataFrame(answers))
             if s.group == "all"}  # fmt: skip
    assert found["image", SCORE].score == pytest.approx(0.7)
    difference = found["image minus no_image", SCORE]
    assert (difference.score, difference.n) == (pytest.approx(0.4), 10)


def test_a_question_asked_in_one_run_of_each_control_has_no_difference() -> None:
    answers = pd.DataFrame(rows("a", "image", 1, range(4)) + rows("b", "no_image", 0, range(2, 6)))
    differences = {s.control for s in question_scores(answers)}
    assert differences == {"image", "no_image"}
    without_runs = question_scores(answers.drop(columns="run_id"))
    (difference,) = (s for s in without_runs if s.group == "all" and s.metric == SCORE
                     and s.control == "image minus no_image")  # fmt: skip
    assert (difference.score, difference.n) == (1, 2)

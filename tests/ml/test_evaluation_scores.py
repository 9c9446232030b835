"""Scores against cases worked out by hand, and the flaws of the published ones."""

from __future__ import annotations

import pytest

from ml.evaluation import scores
from ml.evaluation.scores import bleu, exact, normalised, overlap, scores_of, strict, substring


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Right Lung.", ["right", "lung"]),
        ("T2-weighted MRI", ["t2", "weighted", "mri"]),
        ("Three lesions, in a liver!", ["3", "lesions", "in", "liver"]),
        ("1,200 mL; 3.5 cm", ["1200", "ml", "3.5", "cm"]),
        ("2,3", ["2", "3"]),  # a list, no number of thousands
        ("It isn't / isn\u2019t", ["it", "isnt", "isnt"]),
        ("none", ["0"]),
        ("approx. 50%", ["approx", "50%"]),
        ("P.A. or a.p. view", ["pa", "or", "ap", "view"]),  # else both were the letter p
        ("U.S.A", ["usa"]),
        ("yes.it is", ["yes", "it", "is"]),
        ("grade a. b is not", ["grade", "b", "is", "not"]),
        ("A", ["a"]),  # an option, no article
        ("  \n", []),
        ("?!", []),
    ],
)
def test_normalising(text: str, words: list[str]) -> None:
    assert normalised(text) == words


@pytest.mark.parametrize(
    ("prediction", "truth", "is_strict", "is_substring"),
    [
        ("Yes.", "yes", 1, 1),
        ("No", "Yes", 0, 0),
        ("yes, there is no fracture", "Yes", 1, 1),
        ("yes, there is no fracture", "No", 0, 1),
        ("normal", "No", 0, 1),  # "no" is in "normal"
        ("unknown", "No", 0, 1),  # and in "unknown"
        ("yes and no", "Yes", 1, 1),
        ("yes and no", "No", 0, 1),  # right whatever the truth is
        ("I think yes", "Yes", 0, 1),
        ("", "No", 0, 0),
        ("left side of the chest", "the left side", 1, 1),
        ("side left", "left side", 0, 0),
    ],
)
def test_closed_answers(prediction: str, truth: str, is_strict: float, is_substring: float) -> None:
    assert strict(prediction, truth) == is_strict
    assert substring(prediction, truth) == is_substring


def test_an_answer_without_yes_or_no_stays_in_the_denominator() -> None:
    answers = ["yes", "the heart", "no", "maybe"]
    truths = ["yes", "yes", "yes", "no"]
    found = [strict(a, t) for a, t in zip(answers, truths, strict=True)]
    assert found == [1, 0, 0, 0]
    assert sum(found) / len(found) == 0.25


@pytest.mark.parametrize(
    ("prediction", "truth", "recall", "precision", "f1"),
    [
        ("right lung", "lung, right", 1, 1, 1),  # order is free
        ("in the right upper lobe", "right lobe", 1, 2 / 4, 2 * 2 / (2 + 4)),
        ("lung", "left lung", 1 / 2, 1, 2 / 3),
        ("lung lung lung", "left lung", 1 / 2, 1 / 3, 2 / 5),  # 1 + 3 of theirs would give 3 / 4
        ("left left lung", "left left lung", 1, 1, 1),
        ("heart", "lung", 0, 0, 0),
        ("", "lung", 0, 0, 0),
        ("lung", "...", 0, 0, 0),
        ("", "...", 1, 1, 1),
    ],
)
def test_overlap(prediction: str, truth: str, recall: float, precision: float, f1: float) -> None:
    assert overlap(prediction, truth) == pytest.approx((recall, precision, f1))


def test_exact_is_equality_of_normalised_words() -> None:
    assert exact("The Left lung.", "left lung") == 1
    assert exact("lung left", "left lung") == 0
    assert exact("left lung field", "left lung") == 0


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        # By hand. Two words: orders 1 and 2.
        ("pleural effusion", "pleural effusion", 1.0),
        ("right lung", "left lung", (1 / 2 * (1 / 2) / 1) ** (1 / 2)),
        ("lung right", "right lung", (1 * (1 / 2) / 1) ** (1 / 2)),
        # One word of two: brevity exp(1 - 2 / 1).
        ("effusion", "pleural effusion", 0.36787944117144233),
        ("left pleural effusion", "pleural effusion", (2 / 3 * 1 / 2 * (1 / 2) / 1) ** (1 / 3)),
        ("x y", "p q", 0.0),
        ("", "lung", 0.0),
        # By sacreBLEU 2.6.0: sentence_score, effective_order, smooth_method exp, tokenize none.
        ("left pleural effusion", "pleural effusion", 0.5503212081491042),
        ("in right upper lobe of lung", "in right lower lobe of lung", 0.3799178428257963),
        ("p q r s t", "p q r s u", 0.6687403049764218),
    ],
)
def test_bleu(prediction: str, truth: str, expected: float) -> None:
    assert bleu(prediction, truth) == pytest.approx(expected)


def test_a_question_has_the_scores_of_its_kind() -> None:
    closed = scores_of("yes", "Yes", closed=True)
    assert closed == {**dict.fromkeys(scores.OPEN_METRICS), "strict": 1, "substring": 1}
    opened = scores_of("left lung", "left", closed=False)
    assert {m for m, v in opened.items() if v is None} == set(scores.CLOSED_METRICS)
    assert opened["recall"] == 1
    assert opened["exact"] == 0

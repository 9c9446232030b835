"""Runs put together to prototypes, and who is ahead of whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from ml.evaluation.scores import METRICS
from ml.leaderboard.ranking import (
    Entry,
    TrainedModel,
    entry_of,
    name_of,
    placed,
    prototype_of,
    ranked,
)
from ml.recipe import Recipe, recipe_of

_TOML = """
name = "{name}"
seed = {seed}
[model.encoder]
kind = "cnn"
[model.llm]
path = "small"
[model.fusion]
kind = "{fusion}"
[data]
split_by = "fold"
fold = {fold}
[[stages]]
name = "instruct"
data = "vqa"
template = "plain"
steps = 5
"""


def recipe(name: str = "rad", seed: int = 0, fold: int = 0, fusion: str = "resampler") -> Recipe:
    return recipe_of(_TOML.format(name=name, seed=seed, fold=fold, fusion=fusion), "test")


def model(run_id: str, made_by: Recipe) -> TrainedModel:
    return TrainedModel(run_id, made_by, 100, 10, 2, (2,), 5, 1.0, 1000, {"gold.vqa_examples": 3})


def answers(run_id: str, split: str, right: dict[int, float]) -> pd.DataFrame:
    """Closed questions, one an image, right or wrong with the image and never without."""
    rows = [
        {
            "run_id": run_id, "split": split, "control": control, "example_id": i, "image_id": i,
            "modality": "ct", "question_type": "PRES", **dict.fromkeys(METRICS, np.nan),
            "strict": score if control == "image" else 0.0,
        }
        for i, score in right.items()
        for control in ("image", "no_image")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def entry(name: str, parts: Sequence[tuple[Recipe, pd.DataFrame]]) -> tuple[Entry, pd.DataFrame]:
    together = pd.concat([rows for _, rows in parts])
    runs = [model(str(rows["run_id"].iloc[0]), made_by) for made_by, rows in parts]
    made = entry_of(name, runs, together, split_by="fold", table_version=3)
    return made, together


def test_seed_fold_and_name_make_no_other_prototype() -> None:
    one = prototype_of(recipe())
    assert prototype_of(recipe("other", seed=4, fold=2)) == one
    assert prototype_of(recipe(fusion="mlp_projector")) != one


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["rad-lora-0", "rad-lora-1"], "rad-lora"),
        (["rad", "rad"], "rad"),
        (["gated-2", "gated-10"], "gated"),
        (["gated-10", "gated-11"], "gated"),
        (["px224-0", "px224-1"], "px224"),
        (["lora1", "lora2"], "lora"),
        (["abc", "xyz"], "abc"),
        (["demo-image-2"], "demo-image-2"),
    ],
)
def test_a_prototype_is_called_what_its_recipes_share(names: list[str], shared: str) -> None:
    assert name_of([recipe(name) for name in names]) == shared


def test_folds_are_put_together_and_seeds_averaged() -> None:
    """Fold 0 has questions 1 to 3, fold 1 has 4; seed 1 answers fold 0 again."""
    made, _ = entry(
        "p",
        [
            (recipe(fold=0), answers("a", "0", {1: 1, 2: 0, 3: 1})),
            (recipe(fold=1), answers("b", "1", {4: 1})),
            (recipe(fold=0, seed=1), answers("c", "0", {1: 1, 2: 1, 3: 1})),
        ],
    )
    assert made.questions == 4
    assert made.splits == ("0", "1")
    assert made.seeds == 2
    assert made.score.n == 4
    assert made.score.score == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    of_seeds = [(1 + 0 + 1) / 3, (1 + 1 + 1) / 3]  # of what both answered
    assert made.seed_deviation == pytest.approx(np.std(of_seeds, ddof=1))
    difference = made.find("image minus no_image", "score")
    assert difference is not None
    assert difference.score == pytest.approx(0.875)
    assert made.find("swapped", "score") is None


def test_seeds_with_other_folds_have_no_deviation() -> None:
    parts = [
        (recipe(fold=0), answers("a", "0", {1: 1, 2: 1})),
        (recipe(fold=1, seed=1), answers("b", "1", {3: 0, 4: 0})),
    ]
    made, _ = entry("p", parts)
    assert (made.seeds, made.seed_deviation) == (2, None)


def test_one_seed_has_no_deviation() -> None:
    made, _ = entry("p", [(recipe(), answers("a", "0", {1: 1, 2: 0}))])
    assert made.seed_deviation is None


def test_the_better_one_is_first_and_the_others_are_behind_it() -> None:
    n = 60
    good = {i: float(i % 10 != 0) for i in range(n)}
    close = {i: float(i % 10 != 1 and i != 5) for i in range(n)}
    bad = {i: float(i % 3 == 0) for i in range(n)}
    part = dict.fromkeys(range(10), 0.0)
    order = placed(
        [
            entry("bad", [(recipe("bad"), answers("b", "0", bad))]),
            entry("good", [(recipe("good"), answers("g", "0", good))]),
            entry("close", [(recipe("close"), answers("c", "0", close))]),
            entry("part", [(recipe("part"), answers("p", "0", part))]),
        ]
    )
    assert [(e.place, e.name) for e in order] == [
        (1, "good"),
        (2, "close"),
        (3, "bad"),
        (4, "part"),
    ]
    first, second, third, fourth = order
    assert first.behind is None
    assert second.behind is not None
    assert second.behind.score == pytest.approx(1 / n)
    assert not second.is_told_apart
    assert third.behind is not None
    assert (third.behind.low or 0) > 0.3
    assert third.is_told_apart
    assert fourth.behind is not None
    assert fourth.behind.n == 10  # the questions that both answered
    assert fourth.behind.score == pytest.approx(0.9)


def test_no_question_in_common_is_no_comparison() -> None:
    _, other = placed(
        [
            entry("a", [(recipe("a"), answers("a", "0", {1: 1, 2: 1}))]),
            entry("b", [(recipe("b"), answers("b", "1", {3: 0, 4: 1}))]),
        ]
    )
    assert other.behind is None


def test_one_that_has_only_the_easy_fold_is_not_ahead_of_one_that_has_both() -> None:
    easy = {i: float(i % 10 != 0) for i in range(50)}
    hard = {i: float(i % 10 < 3) for i in range(50, 100)}
    worse = {i: float(i % 10 < 7) for i in range(50)}
    whole = [(recipe(), answers("a", "0", easy)), (recipe(fold=1), answers("b", "1", hard))]
    (first,), (second,) = ranked(
        [entry("half", [(recipe("half"), answers("h", "0", worse))]), entry("whole", whole)]
    )
    assert (first.name, first.place, first.score.score) == ("rad", 1, pytest.approx(0.6))
    assert (second.name, second.place, second.score.score) == ("half", 1, pytest.approx(0.7))


def test_the_largest_group_is_first() -> None:
    pairs = [
        entry("one", [(recipe("one"), answers("a", "0", {1: 1, 2: 1}))]),
        entry("two", [(recipe("two"), answers("b", "1", {3: 0}))]),
        entry("three", [(recipe("three"), answers("c", "1", {3: 1}))]),
    ]
    assert [[e.name for e in group] for group in ranked(pairs)] == [["three", "two"], ["one"]]


def test_one_that_is_ahead_on_the_questions_of_both_is_told_apart() -> None:
    right = dict.fromkeys(range(20), 1.0)
    wrong = dict.fromkeys(range(100, 120), 0.0)
    first = entry("a", [(recipe("a"), answers("a", "0", right | {200: 0.0, 201: 0.0}))])
    _, other = placed(
        [first, entry("b", [(recipe("b"), answers("b", "0", wrong | {200: 1, 201: 1}))])]
    )
    assert other.behind is not None
    assert (other.behind.score, other.is_told_apart) == (-1, True)


def test_two_of_one_name_are_told_apart() -> None:
    """Also where they are not ranked together, for curves and costs stand once for all."""
    groups = ranked(
        [
            entry("abcd12", [(recipe("rad"), answers("a", "0", {1: 1, 2: 1}))]),
            entry("ef0123", [(recipe("rad"), answers("b", "0", {1: 0, 2: 1}))]),
            entry("456789", [(recipe("rad"), answers("c", "1", {3: 0}))]),
            entry("456789", [(recipe("rad"), answers("c", "2", {4: 0}))]),
            entry("other1", [(recipe("gated"), answers("d", "3", {5: 0}))]),
            entry("other1", [(recipe("gated"), answers("d", "4", {6: 0}))]),
        ]
    )
    names = [[e.name for e in group] for group in groups]
    assert names == [["rad abcd", "rad ef01"], ["rad 4567"], ["rad 4567"], ["gated"], ["gated"]]


def test_nothing_has_no_order() -> None:
    assert placed([]) == []

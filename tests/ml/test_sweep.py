"""Which recipes a sweep makes, refuses, and goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.recipe import Recipe, load_recipe
from ml.sweep import Result, Sweep, check_comparable, going_on, read_sweep, values_of, varied
from ml.training.runs import Source
from pipelines.errors import DataRefused, UsageError

LOSSES = st.lists(st.none() | st.floats(0, 10), min_size=1, max_size=12)


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("demo-image")


def results(*losses: float | None) -> list[Result]:
    return [Result(f"run-{i}", loss) for i, loss in enumerate(losses)]


def test_the_better_half_goes_on_rounded_up() -> None:
    assert going_on(results(3.0, 1.0, 2.0), 0.5) == ["run-1", "run-2"]
    assert going_on(results(3.0, 1.0, 2.0), 0.3) == ["run-1"]


def test_no_run_without_a_loss_goes_on() -> None:
    assert going_on(results(None, 4.0, None), 1.0) == ["run-1"]
    assert going_on(results(None), 0.5) == []


def test_equal_losses_go_by_name() -> None:
    assert going_on(results(1.0, 1.0, 1.0), 0.5) == ["run-0", "run-1"]


@given(LOSSES, st.floats(0.01, 1))
def test_nobody_left_behind_is_better_than_one_that_goes_on(
    losses: list[float | None], keep: float
) -> None:
    found = results(*losses)
    best = going_on(found, keep)
    loss = {r.run_id: r.validation_loss for r in found}
    on = [x for r in best if (x := loss[r]) is not None]
    behind = [x for r in loss if r not in best and (x := loss[r]) is not None]
    assert len(on) == len(best) <= len(losses)
    assert on == sorted(on)
    assert not behind or max(on) <= min(behind)


def test_each_combination_is_a_recipe_named_after_it(recipe: Recipe) -> None:
    made = varied(recipe, [("stages.instruct.learning_rate", [1e-3, 2e-3]), ("seed", [7, 8])])
    assert [(r.stages[1].learning_rate, r.seed) for r in made] == [
        (1e-3, 7),
        (1e-3, 8),
        (2e-3, 7),
        (2e-3, 8),
    ]
    assert made[0].name == "demo-image-learning_rate-0.001-seed-7"
    assert {r.stages[0].learning_rate for r in made} == {recipe.stages[0].learning_rate}


def test_without_changes_it_is_the_recipe_itself(recipe: Recipe) -> None:
    assert varied(recipe, []) == [recipe]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("stages.instruct.learning_rat", 1, "did you mean learning_rate"),
        ("stages.tune.learning_rate", 1, "no tune there; there is align, instruct"),
        ("modle.fusion", 1, "no modle there; there is name, description, seed"),
        ("seed.of", 1, "of would be inside of a value"),
        ("model.llm.path.x.y", 1, "no x there; there is nothing"),
        ("seed", "x", "seed"),
        ("model.fusion.kind", "glue", "mlp_projector"),
    ],
)
def test_a_key_or_value_that_cannot_be_is_named(
    recipe: Recipe, key: str, value: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        varied(recipe, [(key, [value])])


def test_values_are_those_of_toml_and_else_text() -> None:
    assert values_of("a.b=1e-3, 2,true,full") == ("a.b", [1e-3, 2, True, "full"])
    for text in ("seed", "seed=", "=1", "seed=1,,2"):
        with pytest.raises(ValueError, match="KEY=VALUE"):
            values_of(text)


def test_losses_over_other_texts_are_not_compared(recipe: Recipe) -> None:
    def changed(key: str, value: Any) -> Recipe:
        return varied(recipe, [(key, [value])])[0]

    check_comparable([recipe, changed("seed", 2)])
    check_comparable([recipe, changed("model.fusion.kind", "resampler")])
    for key, value, said in (
        ("model.llm.path", "other", "llm.path is small-bloom in one and other in the other"),
        ("stages.instruct.max_tokens", 99, "max_tokens"),
        ("stages.instruct.question_types", ["plane"], r"question_types is all .* \['plane'\] in"),
        ("data.split_by", "published_split", "data.split_by"),
        ("data.split_by", "fold", "no validation rows"),
    ):
        with pytest.raises(UsageError, match=said):
            check_comparable([recipe, changed(key, value)])
    with pytest.raises(UsageError, match="two recipes are named demo-image"):
        check_comparable([recipe, recipe])
    with pytest.raises(UsageError, match="two recipes at least"):
        check_comparable([recipe])


def test_a_sweep_is_read_as_it_was_written(recipe: Recipe, tmp_path: Path) -> None:
    tables = {"vqa": Source("gold.vqa_examples", "/lake/gold/vqa_examples", 3)}
    sweep = Sweep("try", {"try-a": recipe}, tables, 2, (0.5, 1.0), 0.5)
    sweep.write(tmp_path)
    assert read_sweep(tmp_path, "try") == sweep
    with pytest.raises(UsageError, match=r"no sweep other in .*: there are try"):
        read_sweep(tmp_path, "other")
    with pytest.raises(UsageError, match="there is none"):
        read_sweep(tmp_path / "empty", "try")
    (tmp_path / "try" / "sweep.json").write_text("{")
    with pytest.raises(DataRefused, match="damaged"):
        read_sweep(tmp_path, "try")

"""A model that is saved, and loaded in a place where nothing else is left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ml.models import build
from ml.models.artefact import load_artefact, save_artefact
from ml.models.tuning import tune
from ml.recipe import Recipe, Stage
from pipelines.errors import UsageError
from tests.ml.tiny_models import tiny_batch, tiny_model


def recipe_with(model: Any, **train: str) -> Recipe:
    fields = {"name": "one", "data": "vqa", "template": "plain", "steps": 1, "train": train}
    return Recipe(name="tiny", model=model, stages=(Stage.model_validate(fields),))


@pytest.mark.parametrize(
    ("llm", "fusion", "train"),
    [
        ("bloom", "mlp_projector", {}),
        ("bloom", "gated_cross_attention", {"llm": "lora"}),
        ("llama", "resampler", {"llm": "lora"}),
    ],
)
def test_what_is_loaded_answers_as_what_was_saved(
    tmp_path: Path, llm: str, fusion: str, train: dict[str, str]
) -> None:
    recipe = recipe_with(tiny_model(tmp_path / "parts", llm, fusion), **train)
    model = build(recipe.model)
    tune(model, recipe.stages[0])
    with torch.no_grad():  # as if it had learnt: gates and adapters, too, are off zero
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    want = model.eval().logits(tiny_batch()).detach()
    save_artefact(model, tmp_path / "model", recipe=recipe, facts={"run_id": "r1"})
    shutil.rmtree(tmp_path / "parts")
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")

    loaded, processor, facts = load_artefact(tmp_path / "elsewhere")

    assert facts == {"run_id": "r1"}
    assert not loaded.training
    assert processor.eos_id == loaded.eos_id == model.eos_id
    assert processor.tokenizer.decode(processor.tokenizer("a normal heart").input_ids)
    torch.testing.assert_close(loaded.logits(tiny_batch()), want, atol=1e-4, rtol=1e-4)
    # The head is the embedding still, and is there once.
    assert loaded.llm.get_output_embeddings().weight is loaded.llm.get_input_embeddings().weight
    names = load_file(tmp_path / "elsewhere" / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in names)
    assert len(names) == len(list(loaded.named_parameters()))


def test_a_state_of_copies_needs_one_name_of_a_tied_weight(tmp_path: Path) -> None:
    recipe = recipe_with(tiny_model(tmp_path / "parts"))
    model = build(recipe.model)
    state = {name: value.detach().clone() for name, value in model.named_parameters()}
    save_artefact(state, tmp_path / "model", recipe=recipe, facts={})
    loaded, _, _ = load_artefact(tmp_path / "model")
    for name, value in loaded.named_parameters():
        assert torch.equal(value, state[name]), name


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    recipe = recipe_with(tiny_model(tmp_path / "parts"))
    state = dict(build(recipe.model).named_parameters())
    gone = "fusion.out.weight"
    some = {name: value for name, value in state.items() if name != gone}
    save_artefact(some, tmp_path / "lacking", recipe=recipe, facts={})
    with pytest.raises(UsageError, match=f"not whole: it lacks {gone}"):
        load_artefact(tmp_path / "lacking")
    save_artefact({**state, gone: torch.zeros(3)}, tmp_path / "other", recipe=recipe, facts={})
    with pytest.raises(UsageError, match=f"{gone} does not belong"):
        load_artefact(tmp_path / "other")
    with pytest.raises(UsageError, match=r"no model of this project: it has no recipe\.json"):
        load_artefact(tmp_path)


def test_a_model_replaces_the_one_before_it_or_stays(tmp_path: Path) -> None:
    recipe = recipe_with(tiny_model(tmp_path / "parts"))
    state = dict(build(recipe.model).named_parameters())
    save_artefact(state, tmp_path / "model", recipe=recipe, facts={"step": 1})
    save_artefact(state, tmp_path / "model", recipe=recipe, facts={"step": 2})
    with pytest.raises(TypeError):
        save_artefact(state, tmp_path / "model", recipe=recipe, facts={"step": object()})
    facts = json.loads((tmp_path / "model" / "facts.json").read_text(encoding="utf-8"))
    assert facts == {"step": 2}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["model", "parts"]

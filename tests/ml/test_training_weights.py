"""Which weights a stage begins with, and which of them its checkpoints have to carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ml.models import VisionLanguageModel
from ml.recipe import Recipe, Stage
from ml.training import checkpoint_files as files
from ml.training.weights import model_of_stage, trained_model
from tests.ml.tiny_models import tiny_batch, tiny_model


def recipe_of(folder: Path, *train: dict[str, Any]) -> Recipe:
    fields = {"data": "vqa", "template": "question_answer", "steps": 1, "precision": "fp32"}
    stages = [
        Stage.model_validate({**fields, "name": f"s{i}", "train": how})
        for i, how in enumerate(train)
    ]
    return Recipe(name="tiny", model=tiny_model(folder, "llama"), stages=tuple(stages))


def learn(model: VisionLanguageModel) -> None:
    """Change whatever is trained, as steps would."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(torch.randn(value.shape, generator=random), alpha=0.1)


def saved(model: VisionLanguageModel, carried: set[str], checkpoint: Path) -> Path:
    """What the checkpointer of one rank writes of a model."""
    tensors = {f"buffer/{name}": b for name, b in model.named_buffers()}
    for name, value in model.named_parameters():
        if value.requires_grad or name in carried:
            tensors[f"{'master' if value.requires_grad else 'kept'}/{name}"] = value
    checkpoint.mkdir()
    copy = files.HostCopy()
    copy.take({name: value.detach().reshape(-1) for name, value in tensors.items()})
    size, checksum = copy.write(checkpoint / files.tensors_name(0))
    pieces = {name: [0, value.numel()] for name, value in tensors.items()}
    index = {"pieces": pieces, "steps": {}, "bytes": size, "crc32": checksum}
    files.write_json(checkpoint / files.index_name(0), index)
    files.write_manifest(checkpoint, {"number": 1}, 1)
    return checkpoint


def logits(model: VisionLanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().logits(tiny_batch())


@pytest.mark.parametrize(
    "train",
    [
        [{"llm": "lora"}, {"llm": "full", "llm_from_layer": 2}],
        [{"llm": "lora"}, {"llm": "full", "llm_from_layer": 2}, {"llm": "lora"}],
        [{"llm": "full"}, {"llm": "lora"}, {"llm": "frozen"}],
    ],
)
def test_a_checkpoint_and_the_recipe_are_the_whole_model(
    tmp_path: Path, train: list[dict[str, Any]]
) -> None:
    recipe = recipe_of(tmp_path, *train)
    before = None
    for number in range(len(train)):
        model, carried = model_of_stage(recipe, number, before)
        learn(model)
        before = saved(model, carried, tmp_path / f"s{number}")
        # Whoever goes on inside the stage makes these anew, and compares them.
        again = dict(model_of_stage(recipe, number, None)[0].named_parameters())
        for name, value in model.named_parameters():
            assert value.requires_grad or name in carried or again[name].equal(value), name
    assert before is not None
    assert torch.equal(logits(trained_model(recipe, before)), logits(model))


def test_adapters_that_stay_need_no_weights_below_them(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"llm": "lora"}, {"llm": "lora"}, {"llm": "frozen"})
    assert model_of_stage(recipe, 1, None)[1] == set()
    assert all(".lora_" in name for name in model_of_stage(recipe, 2, None)[1])

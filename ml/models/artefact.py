"""A trained model as a folder that needs no other file, and holds no pickle.

model.safetensors       every parameter and buffer, adapters merged (in parts where large)
recipe.json, facts.json what it was made by; facts are whatever the run says about it
llm/                    config and tokenizer
encoder/                the encoder's config, where its library needs one
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import safe_open
from torch import Tensor, nn

from ml.models.encoders import config_files
from ml.models.language_models import config_of
from ml.models.processor import Processor, processor_of
from ml.models.vision_language_model import VisionLanguageModel, assembled
from ml.recipe import Recipe, checked
from pipelines.errors import UsageError

_RECIPE, _FACTS = "recipe.json", "facts.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER, _BASE = ".lora_", ".base_layer."  # in the names that peft gives


def save_artefact(
    state: Mapping[str, Tensor] | nn.Module,
    folder: Path,
    *,
    recipe: Recipe,
    facts: Mapping[str, Any],
) -> None:
    """Write a model, or its state by name, to `folder`, which appears whole or not at all.

    Replaces what is there. A tensor that has two names need be in `state` under one of them.
    """
    if isinstance(state, nn.Module):
        state = state.state_dict()
    made = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    made.mkdir(parents=True)
    try:
        save_torch_state_dict(merged(state, recipe), made)
        (made / _RECIPE).write_text(recipe.to_json(), encoding="utf-8")
        (made / _FACTS).write_text(
            json.dumps(dict(facts), indent=1, sort_keys=True), encoding="utf-8"
        )
        config_of(recipe.model.llm).save_pretrained(made / "llm")
        processor_of(recipe.model).tokenizer.save_pretrained(made / "llm")
        (made / "encoder").mkdir()
        for file in config_files(recipe.model.encoder):
            shutil.copy(file, made / "encoder")
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def load_artefact(
    folder: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[VisionLanguageModel, Processor, dict[str, Any]]:
    """Model (in eval mode), processor and facts from such a folder. Raises UsageError."""
    folder = Path(folder).absolute()
    recipe = recipe_of_artefact(folder)
    model = assembled(recipe.model, device="cpu", seed=recipe.seed, dtype=dtype, load=False)
    own = model.state_dict()
    # By storage: an embedding that is the head, too, has two names and needs one.
    lacking = {value.data_ptr(): name for name, value in own.items()}
    for name, value in tensors_in(folder):
        if name not in own or own[name].shape != value.shape:
            raise UsageError(f"{folder}: its {name} does not belong to the model of its recipe")
        own[name].copy_(value)
        lacking.pop(own[name].data_ptr(), None)
    if lacking:
        raise UsageError(
            f"{folder} is not whole: it lacks {', '.join(sorted(lacking.values())[:3])}"
        )
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return model.eval().to(device), processor_of(recipe.model), facts


def recipe_of_artefact(folder: Path) -> Recipe:
    """The recipe that made it, its parts looked up inside the folder. Raises UsageError."""
    path = folder / _RECIPE
    if not path.is_file():
        raise UsageError(f"{folder} is no model of this project: it has no {_RECIPE}")
    recipe = checked(json.loads(path.read_text(encoding="utf-8")), str(path))
    configured = any((folder / "encoder").iterdir())
    encoder = {"weights": str(folder / "encoder") if configured else None}
    llm = {"path": str(folder / "llm"), "gguf_file": None, "config": None}
    model = recipe.model.model_copy(
        update={
            "encoder": recipe.model.encoder.model_copy(update=encoder),
            "llm": recipe.model.llm.model_copy(update=llm),
        }
    )
    return recipe.model_copy(update={"model": model})


def tensors_in(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each tensor, one in memory at a time."""
    files = {_WEIGHTS}
    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        files = set(index["weight_map"].values())
    for file in sorted(files):
        with safe_open(folder / file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no dict)
                yield name, tensors.get_tensor(name)


def merged(state: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """A model's state with adapters merged into the weights, under the names without adapters."""
    made = {}
    for name, value in state.items():
        if _ADAPTER in name:
            continue
        layer, base, kind = name.rpartition(_BASE)
        if base and kind == "weight":
            down, up = (_of_layer(state, layer, half) for half in ("A", "B"))
            lora = recipe.lora_of("llm" if name.startswith("llm.") else "encoder")
            more = (lora.alpha / lora.rank) * (up.float() @ down.float())
            value = (value.float() + more).to(value.dtype)
        made[name.replace(_BASE, ".")] = value
    return made


def _of_layer(state: Mapping[str, Tensor], layer: str, half: str) -> Tensor:
    return next(v for k, v in state.items() if k.startswith(f"{layer}{_ADAPTER}{half}."))

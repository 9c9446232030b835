"""What of a model is trained in a stage: parts frozen, whole, or through low-rank adapters."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from ml.models.language_models import KNOWN_LAYERS, can_run_layers, embeddings_of, layers_of
from ml.models.vision_language_model import VisionLanguageModel
from ml.recipe import PARTS, Lora, Part, Stage
from pipelines.errors import UsageError


def tune(model: VisionLanguageModel, stage: Stage) -> None:
    """Prepare a model for a stage: adapters made, kept or merged, `requires_grad` set.

    A part that is `lora` keeps the adapters that it has from a stage before, else it gets new ones,
    the same on every rank, which change nothing yet. A part that is `full` has its adapters merged
    into its weights first, which have to be whole then: not partitioned by ZeRO-3. A frozen part
    keeps its adapters, frozen. Raises UsageError where a part has no linear layer to adapt.
    """
    for part in PARTS:
        module = model.get_submodule(part)
        how = getattr(stage.train, part)
        if how == "full":
            _merge(module)
        below = _below(model, stage.train.llm_from_layer) if part == "llm" else []
        if how == "lora" and not _adapters(module):
            _inject(module, part, stage.lora, model.seed, below)
        for name, value in module.named_parameters():
            is_adapter = ".lora_" in name  # in the names that peft gives
            value.requires_grad_(how == "full" or (how == "lora" and is_adapter))
        for lower in below:
            lower.requires_grad_(False)
    model.train(model.training)


def parameter_groups(model: VisionLanguageModel, stage: Stage) -> list[dict[str, Any]]:
    """The trained parameters for an optimiser: `params`, `lr`, `weight_decay` and a `name`.

    Each part has a learning rate of its own, and norms, biases, gates and whatever else is a vector
    have no weight decay.
    """
    groups = []
    for part in PARTS:
        trained = [p for p in model.get_submodule(part).parameters() if p.requires_grad]
        for kind, decay in (("weights", stage.weight_decay), ("vectors", 0.0)):
            params = [p for p in trained if (_dimensions(p) < 2) == (kind == "vectors")]
            if params:
                rate = stage.learning_rate_of.get(part, stage.learning_rate)
                groups.append(
                    {"params": params, "lr": rate, "weight_decay": decay, "name": f"{part} {kind}"}
                )
    return groups


def _below(model: VisionLanguageModel, layer: int) -> list[nn.Module]:
    """The embeddings and the layers below one of the language model's; nothing below the first."""
    if layer == 0:
        return []
    if not can_run_layers(model.llm.config):
        raise UsageError(
            f"train.llm_from_layer is for {', '.join(KNOWN_LAYERS)}, not for "
            f"{model.llm.config.model_type}: leave it out"
        )
    layers = layers_of(model.llm)
    if layer >= len(layers):
        raise UsageError(f"train.llm_from_layer is {layer}, and the llm has {len(layers)} layers")
    return [*embeddings_of(model.llm), *layers[:layer]]


def _dimensions(parameter: Tensor) -> int:
    """Of the whole parameter, where ZeRO-3 holds a part of it as a vector."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def _adapters(module: nn.Module) -> list[BaseTunerLayer]:
    return [m for m in module.modules() if isinstance(m, BaseTunerLayer)]


def _inject(
    module: Any, part: Part, lora: Lora, seed: int, below: Sequence[nn.Module] = ()
) -> None:
    """New adapters on the linear layers that are not in `below`."""
    out = {m for lower in below for m in lower.modules()}
    linear = [
        name for name, m in module.named_modules() if isinstance(m, nn.Linear) and m not in out
    ]
    if part == "llm":  # the head is the embedding again, and large
        head = module.get_output_embeddings()
        linear = [name for name in linear if module.get_submodule(name) is not head]
    targets = [
        name
        for name in linear
        if not lora.targets or any(f".{name}".endswith(f".{t}") for t in lora.targets)
    ]
    lacking = [t for t in lora.targets if not any(f".{n}".endswith(f".{t}") for n in linear)]
    if lacking or not targets:
        ends = sorted({name.rpartition(".")[2] for name in linear})
        known = f"its linear layers are {', '.join(ends)}" if ends else "it has no linear layers"
        wanted = f"has no {', '.join(lacking)}" if lacking else "cannot be adapted"
        raise UsageError(f"lora: the {part} {wanted}; {known}")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float does as well
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + zlib.crc32(part.encode()))
        inject_adapter_in_model(config, module)


def _merge(module: nn.Module) -> None:
    """Adapters into the weights that they adapt, and layers as they were before."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())

"""The model of a stage, with the weights that earlier stages gave it.

A stage begins with what the last checkpoint of the stage before holds, and a run that goes on with
that of its own: both build the model anew from its recipe. So training that was cut off anywhere
has the weights that it would have had, in fp32 where the model computes in 16 bits.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ml.models import VisionLanguageModel, build
from ml.models.tuning import tune
from ml.recipe import Recipe, Stage
from ml.training.checkpoint_files import Reader
from ml.training.engine import weights_dtype

_BASE = ".base_layer"  # what peft adds to the name of a weight that has adapters


def model_of_stage(
    recipe: Recipe, number: int, before: Path | None
) -> tuple[VisionLanguageModel, set[str]]:
    """The model of stage `number`, from 0, on the CPU, and which frozen parameters were trained.

    `before` is the last checkpoint of the stage before; None leaves its weights for a checkpoint of
    this stage to fill in. The frozen parameters that an earlier stage changed are in no other
    place, so checkpoints have to carry them.
    """
    stage = recipe.stages[number]
    model = build(recipe.model, seed=recipe.seed, dtype=weights_dtype(stage))
    trained: set[str] = set()
    for earlier in recipe.stages[:number]:
        trained |= _tuned(model, earlier)
        named = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
        trained |= {name.replace(_BASE, "") for name, _ in named}
    if before is not None:
        read_weights(model, before)
    trained |= _tuned(model, stage)
    model.gradient_checkpointing(stage.gradient_checkpointing)
    if stage.keep_frozen_bytes:
        model.keep_frozen_outputs(stage.keep_frozen_bytes)
    frozen = (name for name, p in model.named_parameters() if not p.requires_grad)
    return model, {name for name in frozen if name.replace(_BASE, "") in trained}


def _tuned(model: VisionLanguageModel, stage: Stage) -> set[str]:
    """Tune a model; which of its parameters had adapters merged into them."""
    adapted = {name.replace(_BASE, "") for name, _ in model.named_parameters() if _BASE in name}
    tune(model, stage)
    return {name for name, _ in model.named_parameters() if name in adapted}


def trained_model(recipe: Recipe, checkpoint: Path) -> VisionLanguageModel:
    """The model as the last checkpoint of the last stage has it, on the CPU."""
    model, _ = model_of_stage(recipe, len(recipe.stages) - 1, None)
    read_weights(model, checkpoint)
    return model.eval()


@torch.no_grad()
def read_weights(model: VisionLanguageModel, checkpoint: Path) -> None:
    """Put into a model what a checkpoint of it holds: trained and carried parameters, buffers.

    Raises DataRefused for a checkpoint that is damaged.
    """
    reader = Reader(checkpoint)
    reader.verify(0, 1)
    for kind, tensors in (
        ("master", dict(model.named_parameters())),
        ("kept", dict(model.named_parameters())),
        ("buffer", dict(model.named_buffers())),
    ):
        for name in reader.names(kind):
            values = reader.read(f"{kind}/{name}", 0, tensors[name].numel())
            tensors[name].copy_(values.view(tensors[name].shape))

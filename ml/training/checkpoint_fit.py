"""What a checkpoint says of the engine that wrote it, and why another engine does not fit it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import deepspeed
import torch
from torch import Tensor

from ml.training import checkpoint_fragments as fragments

_NAMED = 5
"""So many parameters an error names before it counts the rest."""


def description(engine: Any, prints: dict[str, int]) -> dict[str, Any]:
    """What a checkpoint says of its engine, the same on all ranks."""
    trained = fragments.trained_parameters(engine)
    schedule = engine.lr_scheduler
    groups = fragments.base_optimizer(engine).param_groups
    return {
        "versions": {"deepspeed": deepspeed.__version__, "torch": torch.__version__},
        "zero_stage": engine.zero_optimization_stage(),
        "parameters": {
            name: {
                "shape": fragments.shape_of(p),
                "dtype": str(p.dtype).removeprefix("torch."),
                "trained": name in trained,
                "fingerprint": prints.get(name),
            }
            for name, p in engine.module.named_parameters()
        },
        "buffers": {name: list(b.shape) for name, b in buffers(engine).items()},
        "counters": {
            name: getattr(engine, name)
            for name in ("global_steps", "global_samples", "skipped_steps")
        },
        "learning_rates": [float(group["lr"]) for group in groups],
        "lr_scheduler": None if schedule is None else schedule.state_dict(),
        "loss_scale": fragments.loss_scale_state(engine),
    }


def differences(here: dict[str, Any], saved: dict[str, Any], kept: Collection[str]) -> list[str]:
    """Why a checkpoint does not fit an engine, a phrase each; empty if it does."""
    mine, theirs = here["parameters"], saved["parameters"]
    both = [name for name in theirs if name in mine]
    found = [
        ("not in the model", [n for n in theirs if n not in mine]),
        ("not in the checkpoint", [n for n in mine if n not in theirs]),
        (
            "of another shape",
            [
                f"{n} ({theirs[n]['shape']} there, {mine[n]['shape']} here)"
                for n in both
                if mine[n]["shape"] != theirs[n]["shape"]
            ],
        ),
        (
            "trained there and frozen here",
            [n for n in both if theirs[n]["trained"] and not mine[n]["trained"]],
        ),
        (
            "frozen there and trained here",
            [n for n in both if mine[n]["trained"] and not theirs[n]["trained"]],
        ),
        (
            "frozen, but with other values",
            [
                n
                for n in both
                if n not in kept
                and not mine[n]["trained"]
                and not theirs[n]["trained"]
                and mine[n]["dtype"] == theirs[n]["dtype"]
                and mine[n]["shape"] == theirs[n]["shape"]
                and mine[n]["fingerprint"] != theirs[n]["fingerprint"]
            ],
        ),
        (
            "buffers of another shape",
            sorted(
                name
                for name in here["buffers"].keys() | saved["buffers"].keys()
                if here["buffers"].get(name) != saved["buffers"].get(name)
            ),
        ),
    ]
    phrases = [f"{what}: {_listed(names)}" for what, names in found if names]
    rates, wanted = len(here["learning_rates"]), len(saved["learning_rates"])
    if rates != wanted:
        phrases.append(f"{wanted} parameter groups there and {rates} here")
    if here["lr_scheduler"] is not None and saved["lr_scheduler"] is None:
        phrases.append("it has no learning rate schedule")
    return phrases


def _listed(names: list[Any]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(str(name) for name in names[:_NAMED]) + more


def frozen(engine: Any) -> set[str]:
    names = {name for name, _ in engine.module.named_parameters()}
    return names - fragments.trained_parameters(engine).keys()


def buffers(engine: Any) -> dict[str, Tensor]:
    """Buffers that a state dictionary of the model would have."""
    return {
        f"{path}.{name}" if path else name: buffer
        for path, module in engine.module.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    }

"""Tensors from a checkpoint file into a module that has names of its own.

Files of every origin are read: safetensors, and PyTorch's own with `weights_only`, which unpickles
tensors and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.errors import UsageError

_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
_HEAD_TENSORS = 2  # weight and bias of a classifier


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: a file, or a folder that holds one of the usual name.

    Raises UsageError where there is none, or where it is no checkpoint of tensors alone.
    """
    if path.is_dir():
        found = [path / name for name in _FILES if (path / name).is_file()]
        if not found:
            raise UsageError(f"{path} holds no weights: expected one of {', '.join(_FILES)}")
        path = found[0]
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch's own has no type that can be named without naming pickle
        reason = str(e).strip().splitlines()[0]
        raise UsageError(f"{path} holds something else than tensors: {reason}") from e
    if isinstance(state.get("state_dict"), Mapping):  # as training scripts save it
        state = state["state_dict"]
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def load_into(module: nn.Module, state: Mapping[str, Tensor], where: Path) -> None:
    """Give every parameter and buffer of `module` its tensor from `state`.

    By name. Where the file knows none of the module's names, by position: each tensor's shape must
    be that of the module's at the same place, and only a classifier's may be left over. Tensors
    that the module lacks, such as those of heads and text towers, are left out. Raises UsageError
    for what is missing or of another shape.
    """
    own = module.state_dict()
    found = {name: state[name] for name in own if name in state} or _by_position(own, state, where)
    missing = sorted(own.keys() - found.keys())
    if missing:
        raise UsageError(f"{where} lacks {len(missing)} tensors of {len(own)}: {_some(missing)}")
    wrong = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if found[name].shape != own[name].shape
    ]
    if wrong:
        raise UsageError(f"{where} is of another size: {_some(wrong)}")
    module.load_state_dict(found)


def _by_position(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: Path
) -> dict[str, Tensor]:
    shapes = [value.shape for value in own.values()]
    given = [value.shape for value in state.values()]
    if given[: len(shapes)] != shapes or len(given) > len(shapes) + _HEAD_TENSORS:
        raise UsageError(
            f"{where} is of another architecture: it has none of the names, such as "
            f"{_some(list(own))}, but {_some(list(state))}; and its {len(given)} tensors do not "
            f"have the shapes of these {len(shapes)} in the same order"
        )
    return dict(zip(own, state.values(), strict=False))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

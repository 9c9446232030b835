"""An encoder's weights, written in the format of the library that its architecture is of.

`build_encoder` reads each of them. timm and transformers read theirs without this project;
open_clip has no format for a vision tower alone, and the small CNN is of no library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor

from ml import recipe
from ml.models.encoders import (
    OPEN_CLIP_CONFIG,
    Encoder,
    HuggingFaceEncoder,
    TimmEncoder,
    open_clip_config,
)
from ml.models.folders import located

_WEIGHTS = "model.safetensors"


def save_encoder(encoder: Encoder, made_by: recipe.Encoder, folder: Path) -> recipe.Encoder:
    """Write it to `folder`; the recipe, with weights "encoder", that builds it from there.

    A timm trunk that came in a checkpoint of open_clip becomes a timm model.
    """
    folder.mkdir()
    kind, name, state = made_by.kind, made_by.name, encoder.body.state_dict()
    if isinstance(encoder, TimmEncoder):
        if kind == "open_clip":
            kind, name = "timm", _open_clip(made_by)["vision_cfg"]["timm_model_name"]
        _save_timm(encoder, made_by, folder)
    elif isinstance(encoder, HuggingFaceEncoder):
        encoder.body.save_pretrained(folder)
    elif kind == "open_clip":
        config = {"model_cfg": _open_clip(made_by)}
        (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        _save({f"visual.{key}": value for key, value in state.items()}, folder)
    else:
        _save(state, folder)
    return made_by.model_copy(update={"kind": kind, "name": name, "weights": "encoder"})


def _save_timm(encoder: TimmEncoder, made_by: recipe.Encoder, folder: Path) -> None:
    side = made_by.image_px
    images = {
        "input_size": (3, side, side),
        "mean": made_by.mean,
        "std": made_by.std,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
    }
    # Else it says which weights of timm's own these are, and their licence.
    own = {"pretrained_cfg": {"tag": "exported", "license": "other"}}
    save_for_hf(
        encoder.body, str(folder), model_config=own, safe_serialization=True, data_config=images
    )


def _open_clip(made_by: recipe.Encoder) -> dict[str, Any]:
    weights = made_by.weights
    path = located(weights, "encoder.weights") if weights else None
    return open_clip_config(made_by.name or "", path)


def _save(state: Mapping[str, Tensor], folder: Path) -> None:
    save_file({key: value.contiguous() for key, value in state.items()}, folder / _WEIGHTS)

"""Image encoders: pixels [B, 3, S, S] become a sequence of vision features [B, T, D].

T are the patches of a transformer (class tokens left out), or the positions of a feature map, row
by row. Heads are left out, so every parameter that there is takes part.
"""

from __future__ import annotations

import json
from dataclasses import fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ml import recipe
from ml.models.folders import located
from ml.models.weights import load_into, read_tensors
from pipelines.errors import UsageError


class Encoder(nn.Module):
    """An image encoder: `body` is the library's module, `tokens` is T, `width` is D."""

    body: Any
    tokens: int
    width: int

    def __init__(self, body: Any, image_px: int) -> None:
        super().__init__()
        self.body = body
        device = next(body.parameters()).device
        self.eval()  # here statistics must not learn from zeros
        with torch.no_grad():
            features = self(torch.zeros(1, 3, image_px, image_px, device=device))
        self.train()
        _, self.tokens, self.width = features.shape

    def train(self, mode: bool = True) -> Encoder:
        """As of any module, but batch normalisation keeps its statistics.

        Each process would gather its own, from a few images and from blank ones.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def gradient_checkpointing(self, enable: bool) -> None:
        """Compute activations again in the backward pass, where the library can."""


class Cnn(nn.Sequential):
    """A small convolutional network: four stages, each of half the resolution, 256 channels."""

    def __init__(self) -> None:
        channels = (3, 32, 64, 128, 256)
        super().__init__(*(_Stage(a, b) for a, b in pairwise(channels)))


class _Stage(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv_norm = nn.GroupNorm(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.norm(self.down(x)))
        return x + nn.functional.gelu(self.conv_norm(self.conv(x)))


class CnnEncoder(Encoder):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.body(pixels).flatten(2).transpose(1, 2)


class TimmEncoder(Encoder):
    def forward(self, pixels: Tensor) -> Tensor:
        features = self.body.forward_features(pixels)
        if features.ndim == 3:
            return features[:, getattr(self.body, "num_prefix_tokens", 0) :]
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)

    def gradient_checkpointing(self, enable: bool) -> None:
        self.body.set_grad_checkpointing(enable)


class OpenClipEncoder(Encoder):
    """A vision transformer of open_clip's own; its timm trunks are TimmEncoder."""

    def forward(self, pixels: Tensor) -> Tensor:
        return self.body(pixels)[1]  # beside what is pooled

    def gradient_checkpointing(self, enable: bool) -> None:
        self.body.set_grad_checkpointing(enable)


class HuggingFaceEncoder(Encoder):
    def forward(self, pixels: Tensor) -> Tensor:
        config = self.body.config
        resized = {}
        if getattr(config, "image_size", pixels.shape[-1]) != pixels.shape[-1]:
            resized = {"interpolate_pos_encoding": True}
        features = self.body(pixel_values=pixels, **resized).last_hidden_state
        if features.ndim == 4:
            return features.flatten(2).transpose(1, 2)
        patches = (pixels.shape[-1] // config.patch_size) ** 2
        return features[:, features.shape[1] - patches :]

    def gradient_checkpointing(self, enable: bool) -> None:
        if enable:
            self.body.activation_checkpointing_enable({"use_reentrant": False})
        else:
            self.body.activation_checkpointing_disable()


def build_encoder(encoder: recipe.Encoder, *, load: bool = True) -> Encoder:
    """The encoder of a recipe, on torch's default device.

    `load`: with its weights; else, and on the meta device, with whatever it is initialised to.
    Raises UsageError where the weights are not there or are not its own.
    """
    path = located(encoder.weights, "encoder.weights") if encoder.weights else None
    load = load and torch.get_default_device().type != "meta"
    made: Encoder
    if encoder.kind == "cnn":
        made, names = CnnEncoder(Cnn(), encoder.image_px), ""
    elif encoder.kind == "timm":
        made, names = _timm(encoder.name or "", encoder.image_px), ""
    elif encoder.kind == "open_clip":
        made, names = _open_clip(encoder.name or "", path, encoder.image_px)
    else:
        assert path is not None  # the recipe has been checked
        return HuggingFaceEncoder(_hugging_face(path, load), encoder.image_px)
    if load and path:
        tensors = read_tensors(path)
        state = {k.removeprefix(names): v for k, v in tensors.items() if k.startswith(names)}
        load_into(made.body, _resampled(state, made.body), path)
    return made


def config_files(encoder: recipe.Encoder) -> list[Path]:
    """The files beside the weights without which the encoder's architecture is not known."""
    path = located(encoder.weights, "encoder.weights") if encoder.weights else None
    names = {"open_clip": OPEN_CLIP_CONFIG, "huggingface": "config.json"}
    file = path / names[encoder.kind] if path and encoder.kind in names else None
    return [file] if file and file.is_file() else []


OPEN_CLIP_CONFIG = "open_clip_config.json"


def _timm(name: str, image_px: int) -> TimmEncoder:
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"encoder.name: timm knows no {name!r}{hint}")
    default = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = {"img_size": image_px} if default and default.fixed_input_size else {}
    body = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **sized)
    return TimmEncoder(body, image_px)


def _open_clip(name: str, path: Path | None, image_px: int) -> tuple[Encoder, str]:
    """The vision tower, and what its tensors' names begin with in a checkpoint."""
    import open_clip  # it takes seconds, and few recipes need it
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = open_clip_config(name, path)
    vision = config["vision_cfg"]
    if "timm_model_name" in vision:
        return _timm(vision["timm_model_name"], image_px), "visual.trunk."
    known = {f.name for f in fields(CLIPVisionCfg)}
    settings = {k: v for k, v in vision.items() if k in known} | {"image_size": image_px}
    tower = _build_vision_tower(
        config["embed_dim"], CLIPVisionCfg(**settings), config.get("quick_gelu", False)
    )
    if not isinstance(tower, open_clip.transformer.VisionTransformer):
        raise UsageError(f"encoder.name: {name} is no vision transformer; only these are supported")
    tower.output_tokens, tower.proj = True, None  # only the patches are used
    return OpenClipEncoder(tower, image_px), "visual."


def open_clip_config(name: str, path: Path | None) -> dict[str, Any]:
    """What open_clip calls model_cfg, of a checkpoint's folder or else by name. UsageError."""
    import open_clip

    if path and (path / OPEN_CLIP_CONFIG).is_file():
        config = json.loads((path / OPEN_CLIP_CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    else:
        config = open_clip.get_model_config(name)
    if config is None:
        raise UsageError(
            f"encoder.name: open_clip knows no {name!r}, and encoder.weights is no folder with "
            f"its {OPEN_CLIP_CONFIG}"
        )
    return dict(config)


def _hugging_face(path: Path, load: bool) -> nn.Module:
    import transformers

    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    # Of models of image and text, the vision tower.
    towers = {
        "clip": transformers.CLIPVisionModel,
        "siglip": transformers.SiglipVisionModel,
    }
    model_class: Any = towers.get(config.model_type, transformers.AutoModel)
    config = getattr(config, "vision_config", config)
    if config.model_type.startswith("siglip"):
        config.vision_use_head = False
    pooling = {}
    if config.model_type in ("vit", "deit", "beit"):
        pooling = {"add_pooling_layer": False}
    if load:
        given = {"local_files_only": True, "output_loading_info": True} | pooling
        made, found = model_class.from_pretrained(path, config=config, dtype=torch.float32, **given)
        if found["missing_keys"]:  # the library would take random ones
            raise UsageError(f"encoder.weights: {path} lacks {sorted(found['missing_keys'])[0]}")
        return made
    make = model_class.from_config if model_class is transformers.AutoModel else model_class
    return make(config, **pooling)


def _resampled(state: dict[str, Tensor], body: Any) -> dict[str, Tensor]:
    """Position embeddings of another image size, interpolated as timm does."""
    given, own = state.get("pos_embed"), getattr(body, "pos_embed", None)
    if given is None or own is None or given.shape == own.shape or given.ndim != 3:
        return state
    prefix = 0 if getattr(body, "no_embed_class", False) else body.num_prefix_tokens
    grid = list(body.patch_embed.grid_size)
    return state | {"pos_embed": resample_abs_pos_embed(given, grid, num_prefix_tokens=prefix)}

"""A model as a folder that the libraries of its parts read, where they can, without this project.

README.md               the model card
config.json             what the parts are and how they go together
preprocessor_config.json   how an image file becomes pixels
llm/                    for AutoModelForCausalLM and AutoTokenizer
encoder/                for timm or transformers, else tensors and JSON, see `encoder_format`
fusion.safetensors, fusion.json
recipe.json, facts.json    as in `artefact`

Nothing in it is code or pickled. The whole of it is loaded by this project alone: no library has
these fusions, and code that comes with weights is not to be trusted.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from ml.models.artefact import load_artefact, recipe_of_artefact, tensors_in
from ml.models.card import Known, model_card
from ml.models.encoder_format import save_encoder
from ml.models.processor import Processor, processor_of
from ml.models.vision_language_model import VisionLanguageModel, build
from ml.recipe import Recipe
from pipelines.errors import UsageError
from pipelines.figures.templates import built_in_templates

MODEL_TYPE = "roundtrip_vlm"
_CONFIG, _FUSION = "config.json", "fusion.safetensors"


@dataclass(frozen=True)
class Exported:
    """What was written: files by their path in the folder, bytes of all, parameters."""

    files: tuple[str, ...]
    bytes: int
    parameters: int


def export_model(
    model: Path, folder: Path, known: Known | None = None, *, licence: str | None = None
) -> Exported:
    """Write the model of an artefact's folder to `folder`, which appears whole or not at all.

    The weights keep the precision that they have there. `known` is what the card tells beside what
    the artefact knows. Replaces an earlier export; raises UsageError, as `check_target`, for
    anything else that is there.
    """
    folder = folder.resolve()
    check_target(folder)
    made_by = recipe_of_artefact(model.absolute())
    vlm, processor, facts = load_model(model, dtype=_dtype_of(model))
    made = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    made.mkdir(parents=True)
    try:
        _write_llm(vlm, processor, made / "llm")
        written = _recipe_inside(vlm, made_by, made)
        save_file(
            {name: value.contiguous() for name, value in vlm.fusion.state_dict().items()},
            made / _FUSION,
            metadata={"format": "pt"},
        )
        _write_json(made / "fusion.json", _fusion_config(vlm, written))
        _write_json(made / "preprocessor_config.json", _image_config(written))
        _write_json(made / "facts.json", facts)
        (made / "recipe.json").write_text(written.to_json(), encoding="utf-8")
        config = _config(vlm, processor, written, _origins(model))
        card = model_card(config, written, facts, known or Known(), licence=licence)
        (made / "README.md").write_text(card, encoding="utf-8")
        files = tuple(sorted([*_files(made), _CONFIG]))
        _write_json(made / _CONFIG, config | {"files": files})
        size = sum((made / name).stat().st_size for name in files)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Exported(files, size, config["parameters"])


def check_target(folder: Path) -> None:
    """Raises UsageError where there is something at `folder` that no export wrote."""
    if not folder.exists():
        return
    way_out = "name another folder with --out, or remove it"
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file: {way_out}")
    files = _files(folder)
    if files and not is_export(folder):
        raise UsageError(f"{folder} is there already, and is no exported model: {way_out}")
    if files:
        own = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get("files", [])
        if others := sorted(set(files) - set(own)):
            raise UsageError(
                f"{folder} holds {others[0]}, which no export wrote and replacing the folder would "
                f"remove: {way_out}"
            )


def is_export(folder: Path) -> bool:
    """Whether the folder is one that `export_model` wrote."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def load_model(
    folder: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[VisionLanguageModel, Processor, dict[str, Any]]:
    """Model (in eval mode), processor and facts of an artefact or an export. Raises UsageError."""
    folder = Path(folder).absolute()
    if not is_export(folder):
        return load_artefact(folder, device=device, dtype=dtype)
    made_by = recipe_of_artefact(folder)
    model = build(made_by.model, seed=made_by.seed, dtype=dtype)
    try:
        model.fusion.load_state_dict(load_file(folder / _FUSION))
    except (OSError, RuntimeError, SafetensorError) as e:
        reason = str(e).strip().splitlines()[-1].strip()
        raise UsageError(f"{folder} is not whole: {_FUSION}: {reason}") from e
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return model.eval().to(device), processor_of(made_by.model), facts


def _dtype_of(folder: Path) -> torch.dtype:
    """The precision of the weights in an artefact; an export is in the one that it says."""
    if is_export(folder):
        name = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["dtype"]
        found: torch.dtype = getattr(torch, name)
        return found
    return next(value.dtype for _, value in tensors_in(folder) if value.is_floating_point())


def _write_llm(vlm: VisionLanguageModel, processor: Processor, folder: Path) -> None:
    # As it answers here: greedily, until the token that ended texts in training.
    vlm.llm.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=processor.eos_id, pad_token_id=processor.pad_id
    )
    vlm.llm.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)


def _recipe_inside(vlm: VisionLanguageModel, made_by: Recipe, folder: Path) -> Recipe:
    """The recipe with the parts that are in the folder, having written the encoder there."""
    encoder = save_encoder(vlm.encoder, made_by.model.encoder, folder / "encoder")
    llm = made_by.model.llm.model_copy(update={"path": "llm"})
    model = made_by.model.model_copy(update={"encoder": encoder, "llm": llm})
    return made_by.model_copy(update={"model": model})


def _origins(folder: Path) -> dict[str, str | None]:
    """What each part was made from, as the recipe names it; of a path on some machine its end."""
    if is_export(folder):
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return {part: config[part]["made_from"] for part in ("encoder", "llm")}
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    named = {
        "encoder": recipe["model"]["encoder"]["weights"],
        "llm": recipe["model"]["llm"]["path"],
    }
    return {part: Path(x).name if x and Path(x).is_absolute() else x for part, x in named.items()}


def _config(
    vlm: VisionLanguageModel,
    processor: Processor,
    written: Recipe,
    origins: Mapping[str, str | None],
) -> dict[str, Any]:
    encoder = written.model.encoder
    libraries = {"timm": "timm", "huggingface": "transformers"}
    stages = {stage.data: stage.template for stage in written.stages}
    return {
        "model_type": MODEL_TYPE,
        "name": written.name,
        "dtype": str(vlm.llm.dtype).removeprefix("torch."),
        "parameters": sum(value.numel() for value in vlm.parameters()),
        "encoder": {
            "folder": "encoder",
            "library": libraries.get(encoder.kind),
            "architecture": encoder.name or type(vlm.encoder.body).__name__,
            "made_from": origins["encoder"],
            "features": vlm.encoder.tokens,
            "width": vlm.encoder.width,
        },
        "fusion": {"weights": _FUSION, "config": "fusion.json"},
        "llm": {
            "folder": "llm",
            "library": "transformers",
            "architecture": type(vlm.llm).__name__,
            "made_from": origins["llm"],
        },
        "eos_token_id": processor.eos_id,
        "pad_token_id": processor.pad_id,
        "prompts": {data: built_in_templates()[data, name].prompt for data, name in stages.items()},
    }


def _fusion_config(vlm: VisionLanguageModel, written: Recipe) -> dict[str, Any]:
    llm = vlm.llm.config.get_text_config()
    return {
        **written.model.fusion.model_dump(mode="json"),
        "features": vlm.encoder.tokens,
        "feature_width": vlm.encoder.width,
        "llm_width": llm.hidden_size,
        "llm_layers": llm.num_hidden_layers,
    }


def _image_config(written: Recipe) -> dict[str, Any]:
    """In transformers' words, but of no class of its own: none rounds and pads as training did."""
    encoder = written.model.encoder
    side = encoder.image_px
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": side},
        "resample": 3,
        "do_pad": True,
        "pad_size": {"height": side, "width": side},
        "pad_position": "center",
        "pad_value": 0,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": encoder.mean,
        "image_std": encoder.std,
    }


def _files(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()]


def _write_json(path: Path, fields: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")

"""A recipe: one prototype in one TOML file, from its three parts to its training stages.

A recipe says everything that a result depends on but the tables and the code; those two are pinned
by the run (`ml.runs`). `ml/recipes/*.toml` are recipes that ship with the project.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import UsageError

Part = Literal["encoder", "fusion", "llm"]
Tuning = Literal["frozen", "full", "lora"]
PARTS: tuple[Part, ...] = get_args(Part)

_Count = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    """Values are checked, not converted; an unknown key is an error; nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Encoder(_Strict):
    """The image encoder: pixels to a sequence of vision features.

    `kind` says which library builds it. `timm` and `open_clip`: `name` is the architecture, and
    `weights` a checkpoint file or folder (none: random). `huggingface`: `weights` is a folder or
    the name of a repository in the local cache. `cnn`: the project's small one, always random
    unless `weights` names a safetensors file.
    """

    kind: Literal["timm", "open_clip", "huggingface", "cnn"]
    name: str | None = None
    weights: str | None = None
    image_px: _Count = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _is_named(self) -> Encoder:
        if self.kind in ("timm", "open_clip") and not self.name:
            raise ValueError(f"kind {self.kind} needs the name of an architecture")
        if self.kind == "huggingface" and not self.weights:
            raise ValueError("kind huggingface needs weights: a folder, or a repository's name")
        return self


class LanguageModel(_Strict):
    """The causal language model: a local folder, or the name of a repository in the local cache.

    `gguf_file` names the file inside the folder where the weights are one. `config` holds the
    architecture as transformers' config.json does, `model_type` included: plans and tests at full
    size need no weights then.
    """

    path: str
    gguf_file: str | None = None
    config: dict[str, Any] | None = None


class Fusion(_Strict):
    """How vision features reach the language model.

    `mlp_projector`: image tokens before the text. `resampler`: the same with `queries` learned
    tokens. `gated_cross_attention`: a gated layer in front of each `every_layers`-th layer of the
    language model, whose gates start at zero. `tokens`: most image tokens of the projector, which
    averages neighbours to get there (none: one for each feature). `enter_layer`: image tokens enter
    before this layer of the language model, counted from 0.
    """

    kind: Literal["mlp_projector", "resampler", "gated_cross_attention"]
    tokens: _Count | None = None
    enter_layer: Annotated[int, Field(ge=0)] = 0
    queries: _Count = 64
    layers: _Count = 2
    heads: _Count = 8
    every_layers: _Count = 4


class Model(_Strict):
    """The three parts."""

    encoder: Encoder
    llm: LanguageModel
    fusion: Fusion


class Data(_Strict):
    """Which rows are for training and which for testing.

    `split`: the project's own, by group of near-duplicates. `published_split`: the publisher's.
    `fold`: rows of `fold` are the test, all others are for training; folds are by group, too.
    """

    split_by: Literal["split", "published_split", "fold"] = "split"
    fold: Annotated[int, Field(ge=0, le=4)] = 0


class Lora(_Strict):
    """Low-rank adapters (arXiv 2106.09685) on every linear layer of a part, or on `targets`."""

    rank: _Count = 8
    alpha: float = 16.0
    dropout: _Share = 0.0
    targets: tuple[str, ...] = ()


class Tunings(_Strict):
    """What of each part is trained.

    Below layer `llm_from_layer`, counted from 0, the language model stays frozen, and where that is
    not 0 its embeddings do, too.
    """

    encoder: Tuning = "frozen"
    fusion: Literal["frozen", "full"] = "full"
    llm: Tuning = "frozen"
    llm_from_layer: Annotated[int, Field(ge=0)] = 0


class Stage(_Strict):
    """One stage of training: on which table, what of the model, for how long, how.

    Of `data` "vqa" it learns the questions whose question_type is one of `question_types`, or all.
    `steps` counts optimiser steps, `epochs` passes over the rows: one of them is given.
    `global_batch` examples make a step, whatever the number of processes; `micro_batch` of them
    are in memory at a time on each. `image_dropout` is the share of examples whose image is
    withheld in training, `closed_image_swap` that of closed questions which are asked of another
    example's image there: where images are few, a model else learns by heart which say yes.
    `precision`: `bf16` and `fp16` hold weights in 16 bits with fp32 masters; `bf16_autocast` holds
    fp32 weights and computes in bf16. `keep_frozen_bytes` of host memory, on each process, keep
    what frozen parts make of an image or a text, so that it is computed once and not in every
    epoch. A step whose loss or gradient is not finite is skipped; `most_skipped` in a row end the
    run.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    data: Literal["captions", "vqa"]
    question_types: tuple[str, ...] = ()
    template: str
    train: Tunings = Tunings()
    lora: Lora = Lora()
    steps: _Count | None = None
    epochs: _Count | None = None
    global_batch: _Count = 32
    micro_batch: _Count = 8
    max_tokens: Annotated[int, Field(ge=8)] = 256
    image_dropout: _Share = 0.0
    closed_image_swap: _Share = 0.0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    learning_rate_of: dict[Part, Annotated[float, Field(gt=0)]] = {}
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    least_rate: _Share = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["fp32", "bf16", "fp16", "bf16_autocast"] = "bf16"
    gradient_checkpointing: bool = False
    keep_frozen_bytes: Annotated[int, Field(ge=0)] = 0
    zero_stage: Literal[0, 1, 2, 3] = 2
    offload_optimizer: Literal["none", "cpu", "nvme"] = "none"
    offload_parameters: Literal["none", "cpu", "nvme"] = "none"
    checkpoint_every: _Count = 50
    keep_checkpoints: _Count = 2
    validate_every: _Count | None = None
    most_skipped: _Count = 5

    @model_validator(mode="after")
    def _is_whole(self) -> Stage:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.question_types and self.data != "vqa":
            raise ValueError('question_types needs data = "vqa"')
        if self.closed_image_swap and self.data != "vqa":
            raise ValueError('closed_image_swap needs data = "vqa"')
        if self.closed_image_swap and self.global_batch == 1:
            raise ValueError("closed_image_swap needs another example in a global_batch")
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"global_batch {self.global_batch} is no multiple of micro_batch {self.micro_batch}"
            )
        if self.offload_parameters != "none" and self.zero_stage != 3:
            raise ValueError("offload_parameters needs zero_stage 3")
        if self.keep_frozen_bytes and self.zero_stage == 3:
            raise ValueError("keep_frozen_bytes needs a zero_stage of 0, 1 or 2")
        if self.offload_optimizer != "none" and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs a zero_stage of 1, 2 or 3")
        if self.offload_optimizer == "nvme":
            raise ValueError("offload_optimizer: checkpoints cannot read NVMe; use cpu")
        tunings = {getattr(self.train, part) for part in PARTS}
        if tunings == {"frozen"}:
            raise ValueError("nothing is trained: encoder, fusion and llm are all frozen")
        is_whole = tunings == {"full"} and not self.train.llm_from_layer
        if self.offload_parameters == "nvme" and not is_whole:
            raise ValueError("offload_parameters: checkpoints cannot read what is frozen from NVMe")
        return self


class Recipe(_Strict):
    """A prototype: its parts, its data and its stages, one after another."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    model: Model
    data: Data = Data()
    stages: tuple[Stage, ...]

    @model_validator(mode="after")
    def _has_stages(self) -> Recipe:
        if not self.stages:
            raise ValueError("it has no [[stages]]")
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"two stages have the same name: {names}")
        for part in PARTS:
            if len(set(self._loras(part))) > 1:
                raise ValueError(
                    f"the {part} keeps its adapters: lora must be the same in all stages"
                )
        adapted_from: int | None = None
        for stage in self.stages:
            if stage.train.llm == "full":  # merges them
                adapted_from = None
            elif stage.train.llm == "lora":
                layer = stage.train.llm_from_layer
                adapted_from = layer if adapted_from is None else adapted_from
                if layer < adapted_from:
                    raise ValueError(
                        f"stage {stage.name}: the llm keeps its adapters, which begin at layer "
                        f"{adapted_from}: llm_from_layer cannot be {layer}"
                    )
        return self

    def lora_of(self, part: Part) -> Lora:
        """The adapters of a part that has some in one stage or several."""
        return self._loras(part)[0]

    def _loras(self, part: Part) -> list[Lora]:
        return [stage.lora for stage in self.stages if getattr(stage.train, part) == "lora"]

    def to_json(self) -> str:
        """The recipe with every default written out: the same recipe has the same text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def built_in() -> dict[str, str]:
    """The recipes that ship with the project, by name: their TOML."""
    folder = files("ml") / "recipes"
    found = (f for f in folder.iterdir() if f.name.endswith(".toml"))
    return {f.name.removesuffix(".toml"): f.read_text(encoding="utf-8") for f in found}


def load_recipe(path_or_name: str) -> Recipe:
    """The recipe in a file, or the one of that name that ships with the project.

    Raises UsageError, which names the key and what is nearest to it, for a file that is no recipe.
    """
    if Path(path_or_name).is_file():
        return recipe_of(Path(path_or_name).read_text(encoding="utf-8"), path_or_name)
    known = built_in()
    if path_or_name in known:
        return recipe_of(known[path_or_name], path_or_name)
    near = get_close_matches(path_or_name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"built in are {', '.join(sorted(known))}"
    raise UsageError(f"{path_or_name} is neither a file nor a built-in recipe; {hint}")


def recipe_of(toml: str, where: str) -> Recipe:
    """The recipe that a text is; `where` is named in errors. Raises UsageError."""
    try:
        return checked(tomllib.loads(toml), where)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{where}: no TOML: {e}") from e


def checked(fields: Any, where: str) -> Recipe:
    """The recipe of parsed TOML or JSON. Raises UsageError with every line that is wrong."""
    try:
        # As JSON, where a list may be a tuple; numbers and texts are not converted there either.
        return Recipe.model_validate_json(json.dumps(fields, default=str))
    except ValidationError as e:
        raise UsageError(f"{where}: " + "; ".join(_lines(e))) from e


def _lines(error: ValidationError) -> Iterator[str]:
    for found in error.errors():
        place = ".".join(str(x) for x in found["loc"])
        if found["type"] == "extra_forbidden":
            known = _keys_at(found["loc"][:-1])
            near = get_close_matches(str(found["loc"][-1]), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            yield f"unknown key {place}; {hint}"
        elif found["type"] == "missing":
            yield f"{place} is missing"
        else:
            given = "" if isinstance(found["input"], dict | list) else f" ({found['input']!r})"
            yield f"{place or 'recipe'}{given}: {found['msg'].removeprefix('Value error, ')}"


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """The keys that a table at this place of a recipe may have."""
    model: type[BaseModel] = Recipe
    for name in place:
        if isinstance(name, int):
            continue
        kind = model.model_fields[name].annotation
        model = next(x for x in (kind, *get_args(kind)) if _is_model(x))
    return list(model.model_fields)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)

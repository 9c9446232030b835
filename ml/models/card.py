"""The card of an exported model: what it is, what it was made from, how good it is, how to use it.

Markdown with the front matter that Hugging Face's hub reads. What is not known is said to be so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ml.evaluation.summary import SCORE, Score
from ml.recipe import PARTS, Recipe, Stage

_UNKNOWN = "not known"
_SHOWN = {
    SCORE: "score",
    "strict": "closed, strict",
    "f1": "open, F1",
    "recall": "open, recall",
    "exact": "open, exact",
    "perplexity": "perplexity",
    "image_to_text_recall_at_1": "image to text, recall at 1",
    "text_to_image_recall_at_1": "text to image, recall at 1",
}
_AS_IT_IS = {"perplexity"}
"""Metrics that are no share of one."""
_LOADED_BY = {
    "timm": {
        "imports": "import timm\n",
        "encoder": 'encoder = timm.create_model("local-dir:encoder", pretrained=True).eval()\n',
    },
    "transformers": {
        "imports": "",
        "encoder": 'encoder = AutoModel.from_pretrained("encoder")\n',
    },
    None: {
        "imports": "",
        "encoder": 'encoder = load_file("encoder/model.safetensors")  # tensors alone\n',
    },
}
"""By the library that has a format for an encoder, what of `_PARTS` is its own."""
_PARTS = """\
import json
from pathlib import Path

import numpy as np
{imports}import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("llm")
llm = AutoModelForCausalLM.from_pretrained("llm")
{encoder}fusion = load_file("fusion.safetensors")
images = json.loads(Path("preprocessor_config.json").read_text())


def pixels(file):
    \"""Close to what the encoder was shown of an image file in training: [1, 3, S, S].\"""
    side = images["size"]["longest_edge"]
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = np.zeros((side, side, 3))
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image.resize((width, height), 3)
    normal = (square / 255 - images["image_mean"]) / images["image_std"]
    return torch.from_numpy(normal).float().permute(2, 0, 1)[None]
"""


@dataclass(frozen=True)
class TrainedOn:
    """A version of a table, and how many rows were for training; None: it cannot be read now."""

    table: str
    version: int
    rows: int | None


@dataclass(frozen=True)
class StageTrained:
    """What a stage took: text tokens without padding, losses a label token in nats."""

    name: str
    steps: int
    examples: int
    tokens: int
    loss: float | None
    validation_loss: float | None


@dataclass(frozen=True)
class Evaluated:
    """Scores on the same rows of a table, of every control."""

    table: str
    version: int
    split_by: str
    split: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Placed:
    """A place on the leaderboard among `of` prototypes, tested on the same rows."""

    place: int
    of: int
    split_by: str
    table_version: int
    runs: int
    score: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Known:
    """What tables tell of a model; `run` is its row of ml.runs. Empty where they do not."""

    run: Mapping[str, Any] = field(default_factory=dict)
    trained_on: tuple[TrainedOn, ...] = ()
    stages: tuple[StageTrained, ...] = ()
    evaluated: tuple[Evaluated, ...] = ()
    placed: tuple[Placed, ...] = ()
    licences: Mapping[str, int] | None = None


def model_card(
    config: Mapping[str, Any],
    recipe: Recipe,
    facts: Mapping[str, Any],
    known: Known,
    *,
    licence: str | None = None,
) -> str:
    """The card of an export with that config.json, recipe and facts.

    `licence` is what the model is given away under, as the hub spells it.
    """
    run_id = facts.get("run_id") or known.run.get("run_id")
    parts = (
        [
            f"# {recipe.name}",
            _cell(recipe.description),
            f"A vision-language model: an image encoder ({_cell(config['encoder']['architecture'])}"
            f"), a fusion ({recipe.model.fusion.kind}) and a language model "
            f"({_cell(config['llm']['architecture'])}), {config['parameters']:,} parameters. "
            f"Training run {_cell(run_id or _UNKNOWN)}, checkpoint "
            f"{_cell(facts.get('checkpoint') or _UNKNOWN)}, seed {recipe.seed}.",
        ],
        _limits(known.evaluated),
        _licences(known.licences, config, licence),
        _data(recipe, facts, known),
        _training(recipe, facts, known),
        _scores(known),
        _use(config),
        ["## Recipe", f"```json\n{json.dumps(json.loads(recipe.to_json()), indent=1)}\n```"],
    )
    text = "\n\n".join(paragraph for part in parts for paragraph in part if paragraph)
    return f"---\n{_front(config, recipe, known, licence)}\n---\n\n{text}\n"


def _front(config: Mapping[str, Any], recipe: Recipe, known: Known, licence: str | None) -> str:
    results = [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=at.table,
            dataset_name=f"{at.table} version {at.version}",
            dataset_split=f"{at.split_by} {at.split}",
            metric_type=score.metric,
            metric_name=_SHOWN[score.metric],
            metric_value=round(score.score, 6),
        )
        for at in known.evaluated
        for score in at.scores
        if score.control == "image" and score.metric in _SHOWN
    ]
    made_from = config["llm"]["made_from"] or ""
    data = ModelCardData(
        license=licence or "other",
        pipeline_tag="image-text-to-text",
        tags=["vision-language-model", "research-only", recipe.model.fusion.kind],
        base_model=made_from if re.fullmatch(r"[\w.-]+/[\w.-]+", made_from) else None,
        model_name=recipe.name,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _limits(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    yield "## Intended use and limits"
    yield (
        "For research on vision-language models. **Not for diagnosis, and not for any decision "
        "about a patient.** It answers whatever it is asked, also about images of a kind that it "
        "never saw, and can be sure and wrong."
    )
    for at in evaluated:
        gain = _find(at.scores, "image minus no_image", SCORE)
        if gain and (gain.low is None or gain.low <= 0):
            yield (
                f"On {at.table}, {at.split_by} {at.split}, its answers with the image are **not "
                "told apart from its answers without one**."
            )


def _licences(
    licences: Mapping[str, int] | None, config: Mapping[str, Any], licence: str | None
) -> Iterator[str]:
    yield "## Licences"
    sources = [config[part]["made_from"] for part in ("encoder", "llm")]
    named = " and ".join(_cell(name) for name in sources if name)
    of_parts = f" Licences of the weights that it was made from ({named}) hold for it too." * bool(
        named
    )
    yield f"This model: {_cell(licence) if licence else 'none was stated.'}{of_parts}"
    if licences:
        yield "The figures that it was trained on, as their publishers state it:"
        yield _table(
            ("licence", "figures"),
            ((text or "not stated", f"{n:,}") for text, n in licences.items()),
        )
    else:
        yield f"The figures that it was trained on: {_UNKNOWN}."


def _data(recipe: Recipe, facts: Mapping[str, Any], known: Known) -> Iterator[str]:
    yield "## Trained on"
    tables = known.trained_on or tuple(
        TrainedOn(table, version, None)
        for table, version in sorted((facts.get("tables_in") or {}).items())
    )
    if not tables:
        yield f"Tables: {_UNKNOWN}."
        return
    data = recipe.data
    split = f"fold {data.fold} left out" if data.split_by == "fold" else f"by {data.split_by}"
    yield _table(
        ("table", "version", f"rows for training, {split}"),
        ((t.table, str(t.version), _UNKNOWN if t.rows is None else f"{t.rows:,}") for t in tables),
    )


def _training(recipe: Recipe, facts: Mapping[str, Any], known: Known) -> Iterator[str]:
    yield "## Training"
    took = {stage.name: stage for stage in known.stages}
    rows = []
    for stage in recipe.stages:
        found = took.get(stage.name)
        numbers = (
            (f"{found.steps:,}", f"{found.examples:,}", f"{found.tokens:,}",
             _number(found.loss), _number(found.validation_loss))
            if found
            else (_UNKNOWN,) * 5
        )  # fmt: skip
        rows.append((stage.name, stage.data, _trained(stage), stage.precision, *numbers))
    yield _table(
        ("stage", "data", "trained", "precision", "steps", "examples", "tokens", "last loss",
         "last validation loss"),
        rows,
    )  # fmt: skip
    run = known.run
    if run:
        stages = ", ".join(map(str, run["zero_stages"]))
        seconds = "" if run["seconds"] is None else f", {run['seconds']:,.0f} s in training steps"
        yield f"{run['processes']} processes, ZeRO {stages}{seconds}; outcome: {run['outcome']}."
    versions = run.get("versions") or facts.get("versions") or {}
    if versions:
        yield "Versions: " + ", ".join(
            f"{_cell(k)} {_cell(v)}" for k, v in sorted(versions.items())
        )


def _trained(stage: Stage) -> str:
    named = [f"{p} {tuning}" for p in PARTS if (tuning := getattr(stage.train, p)) != "frozen"]
    layer = stage.train.llm_from_layer if stage.train.llm != "frozen" else 0
    return ", ".join(named) + (f" from layer {layer}" if layer else "")


def _scores(known: Known) -> Iterator[str]:
    yield "## Scores"
    if not known.evaluated:
        yield f"{_UNKNOWN.capitalize()}: no whole evaluation of this checkpoint is recorded."
    for at in known.evaluated:
        metrics = [m for m in _SHOWN if _find(at.scores, "image", m)]
        yield (
            f"On {at.table} version {at.version}, {at.split_by} {at.split}: per cent (perplexity "
            "as it is), with 95 % intervals by image. `blank`, `no_image` and `swapped` are the "
            "same model shown a gray image, none, and another one; `majority` and `retrieval` "
            "answer without a model. A difference whose interval reaches 0 tells nothing."
        )
        rows = []
        for control in dict.fromkeys(score.control for score in at.scores):
            found = [_find(at.scores, control, metric) for metric in metrics]
            if any(found):
                rows.append((control, *(_interval(s) if s else "" for s in found)))
        counts = [_find(at.scores, "image", metric) for metric in metrics]
        rows.append(("n", *(f"{s.n:,}" if s else "" for s in counts)))
        yield _table(("", *(_SHOWN[m] for m in metrics)), rows)
    for p in known.placed:
        score = Score("image", SCORE, "all", "all", 0, p.score, p.low, p.high)
        yield (
            f"Leaderboard, by {p.split_by} of version {p.table_version}: place {p.place} of "
            f"{p.of}, score {_interval(score)}, {p.runs} runs of the prototype put together."
        )


def _use(config: Mapping[str, Any]) -> Iterator[str]:
    yield "## Use"
    yield (
        "The whole model answers in the project that made it, Roundtrip: `python jobs/ask_vlm.py "
        "IMAGE QUESTION --model THIS_FOLDER`. Its parts need only the libraries that they are of; "
        "in this folder:"
    )
    library = config["encoder"]["library"]
    yield f"```python\n{_PARTS.format(**_LOADED_BY[library])}```"
    yield (
        "No library has the fusion (`fusion.safetensors`, `fusion.json`), so none puts the parts "
        "together"
        + ("" if library else ", and none has a format for this encoder alone")
        + ". Nothing here is code or pickled."
    )


def _find(scores: Iterable[Score], control: str, metric: str) -> Score | None:
    return next((s for s in scores if (s.control, s.metric) == (control, metric)), None)


def _interval(score: Score) -> str:
    scale, digits = (1, 2) if score.metric in _AS_IT_IS else (100, 1)
    if score.low is None or score.high is None:
        return f"{scale * score.score:.{digits}f}"
    low, high = (f"{scale * end:.{digits}f}" for end in (score.low, score.high))
    return f"{scale * score.score:.{digits}f} [{low}, {high}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: object) -> str:
    """Text as text: what a publisher wrote must not become a part of the page."""
    flat = " ".join(str(text).split())
    return re.sub(r"([|<>`*\\]|\](?=\())", r"\\\1", flat)

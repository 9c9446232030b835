"""A model that is exported, and loaded again: whole here, in parts where this project is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file

from ml.evaluation.answers import Answerer
from ml.evaluation.summary import Score
from ml.models import build
from ml.models.artefact import load_artefact, save_artefact
from ml.models.card import Evaluated, Known, Placed, StageTrained, TrainedOn
from ml.models.export import MODEL_TYPE, export_model, load_model
from ml.models.processor import normalised
from ml.recipe import Encoder, Recipe
from pipelines.errors import UsageError
from tests.ml.made_tables import square
from tests.ml.seeing import seeing_recipe
from tests.ml.tiny_models import tiny_batch, tiny_model

FACTS = {"run_id": "r1", "checkpoint": "instruct-000002", "tables_in": {"gold.vqa_examples": 3}}


def recipe_of(
    folder: Path, llm: str = "bloom", fusion: str = "mlp_projector", **encoder: Any
) -> Recipe:
    """A recipe of a tiny model, its encoder as given, else a CNN."""
    model = tiny_model(folder, llm, fusion)
    if encoder:
        made = Encoder.model_validate({"image_px": 32, **encoder})
        model = model.model_copy(update={"encoder": made})
    return seeing_recipe(folder, name="tiny", model=model)


def saved(folder: Path, recipe: Recipe, dtype: torch.dtype = torch.float32) -> Path:
    """The folder of an untrained model, all of whose weights are off what they begin with."""
    model = build(recipe.model, dtype=dtype)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    save_artefact(model, folder / "model", recipe=recipe, facts=FACTS)
    return folder / "model"


def huggingface_vit(folder: Path) -> str:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8,
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


def huggingface_clip(folder: Path, kind: str) -> str:
    """A model of image and text, of which a recipe takes the vision tower."""
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 32}  # fmt: skip
    config_class: Any = getattr(transformers, f"{kind}Config")
    model_class: Any = getattr(transformers, f"{kind}Model")
    config = config_class(
        vision_config={**small, "image_size": 32, "patch_size": 8},
        text_config={**small, "vocab_size": 64, "max_position_embeddings": 16},
    )
    model_class(config).save_pretrained(folder)
    return str(folder)


def open_clip_weights(folder: Path, vision: dict[str, Any]) -> str:
    """A checkpoint as open_clip publishes it, with a vision tower so configured."""
    import open_clip

    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    model = open_clip.CLIP(**config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return str(folder)


def encoder_of(kind: str, folder: Path) -> dict[str, Any]:
    """An encoder of each kind, in a recipe's words, its weights made in `folder`."""
    tower = {"image_size": 32, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
    trunk = {"image_size": 32, "timm_model_name": "resnet10t", "timm_pool": "avg"}
    made: dict[str, Any] = {
        "cnn": lambda: {"kind": "cnn"},
        "timm": lambda: {"kind": "timm", "name": "tf_efficientnet_lite0"},
        "timm vit": lambda: {"kind": "timm", "name": "test_vit"},
        "open_clip": lambda: {
            "kind": "open_clip", "name": "own", "weights": open_clip_weights(folder, tower)
        },
        "open_clip trunk": lambda: {
            "kind": "open_clip", "name": "trunk", "weights": open_clip_weights(folder, trunk)
        },
        "vit": lambda: {"kind": "huggingface", "weights": huggingface_vit(folder)},
        "clip": lambda: {"kind": "huggingface", "weights": huggingface_clip(folder, "CLIP")},
        "siglip": lambda: {"kind": "huggingface", "weights": huggingface_clip(folder, "Siglip")},
    }  # fmt: skip
    return dict(made[kind]())


ENCODERS = ("cnn", "timm", "timm vit", "open_clip", "open_clip trunk", "vit", "clip", "siglip")


@pytest.mark.parametrize("kind", ENCODERS)
def test_each_encoder_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    recipe = recipe_of(tmp_path / "parts", **encoder_of(kind, tmp_path / "weights"))
    model = saved(tmp_path, recipe)
    want, _, _ = load_artefact(model)
    export_model(model, tmp_path / "export")
    for folder in ("parts", "weights", "model"):  # it needs none of them any more
        if (tmp_path / folder).exists():
            (tmp_path / folder).rename(tmp_path / f"{folder}-gone")
    found, _, facts = load_model(tmp_path / "export")
    assert facts == FACTS
    assert not found.training
    batch = tiny_batch()
    assert torch.equal(found.encoder(batch.pixels), want.encoder(batch.pixels))
    assert torch.equal(found.logits(batch), want.logits(batch))
    files = {p.name for p in (tmp_path / "export").rglob("*")}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".py", ".pkl"))]


@pytest.mark.parametrize("fusion", ["mlp_projector", "resampler", "gated_cross_attention"])
@pytest.mark.parametrize("llm", ["bloom", "llama"])
def test_it_answers_as_the_model_did(tmp_path: Path, llm: str, fusion: str) -> None:
    model = saved(tmp_path, recipe_of(tmp_path / "parts", llm, fusion))
    done = export_model(model, tmp_path / "export")
    images, prompts = [square(40), None, square(220)], ["which organ?", "is it normal?", "where?"]
    assert Answerer(tmp_path / "export").answers(images, prompts) == (
        Answerer(model).answers(images, prompts)
    )
    files = sorted(
        p.relative_to(tmp_path / "export").as_posix()
        for p in (tmp_path / "export").rglob("*")
        if p.is_file()
    )
    assert list(done.files) == files
    assert {
        "README.md", "config.json", "encoder/model.safetensors", "facts.json", "fusion.json",
        "fusion.safetensors", "llm/config.json", "llm/generation_config.json",
        "llm/model.safetensors", "llm/tokenizer.json", "llm/tokenizer_config.json",
        "preprocessor_config.json", "recipe.json",
    } <= set(files)  # fmt: skip
    texts = [
        (tmp_path / "export" / name).read_text()
        for name in files
        if not name.endswith(".safetensors")
    ]
    assert not [text for text in texts if str(tmp_path) in text]  # where it was made is no matter


def test_weights_keep_their_precision(tmp_path: Path) -> None:
    model = saved(tmp_path, recipe_of(tmp_path / "parts"), torch.bfloat16)
    export_model(model, tmp_path / "export")
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert json.loads((tmp_path / "export/llm/config.json").read_text())["dtype"] == "bfloat16"
    want, found = load_artefact(model)[0], load_model(tmp_path / "export")[0]
    assert torch.equal(found.logits(tiny_batch()), want.logits(tiny_batch()))
    export_model(tmp_path / "export", tmp_path / "again")  # an export is a model, too
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again == config


FEATURES = {
    "cnn": "encoder['0.down.weight']",
    "timm": "encoder.forward_features(images[None]).flatten(2).transpose(1, 2)",
    "vit": "encoder(pixel_values=images[None]).last_hidden_state[:, 1:]",
}
"""By kind of encoder, what a foreign process makes of it."""
FOREIGN = r"""
import importlib.util, json, os, re, sys
from pathlib import Path

given = json.loads(sys.argv[1])
sys.path[:0] = given["site"]
assert importlib.util.find_spec("ml") is None, "this project is here"
import torch
from safetensors.torch import save_file

for kind, features in given["features"].items():
    os.chdir(Path(given["folder"], kind))
    names = {}
    exec(re.search(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)[1], names)
    tokenizer, llm = names["tokenizer"], names["llm"]
    ids = tokenizer(given["text"], return_tensors="pt").input_ids
    with torch.no_grad():
        names["images"] = names["pixels"](given["image"])[0]
        made = {
            "ids": ids,
            "logits": llm(ids).logits,
            "answer": llm.generate(ids, max_new_tokens=5)[:, ids.shape[1] :],
            "pixels": names["images"],
            "features": eval(features, names),
        }
    save_file({k: v.contiguous() for k, v in made.items()}, f"../{kind}.safetensors")
assert not [name for name in sys.modules if name.split(".")[0] in ("ml", "jobs", "udfs")]
"""


@pytest.mark.slow
def test_parts_load_where_this_project_is_not_as_the_card_says(tmp_path: Path) -> None:
    for kind in FEATURES:
        own = tmp_path / f"of {kind}"
        recipe = recipe_of(own / "parts", **encoder_of(kind, own / "weights"))
        export_model(saved(own, recipe), tmp_path / kind)
    image = tmp_path / "wide.png"
    shades = np.random.default_rng(0).integers(0, 256, (50, 83, 3), dtype=np.uint8)
    Image.fromarray(shades).save(image)
    given = {
        "site": [sysconfig.get_path(name) for name in ("purelib", "platlib")],
        "folder": str(tmp_path),
        "features": FEATURES,
        "image": str(image),
        "text": "Question: is there a fracture?\nAnswer:",
    }
    # -I: no PYTHONPATH and not this folder; -S: nothing that is installed as a link to its sources.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FOREIGN, json.dumps(given)],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for kind in FEATURES:
        made = load_file(tmp_path / f"{kind}.safetensors")
        model, processor, _ = load_model(tmp_path / kind)
        assert made["ids"].tolist() == [processor.tokenizer(given["text"]).input_ids]
        assert made["answer"].shape[1] <= 5
        with torch.no_grad():
            assert torch.equal(made["logits"], model.llm(made["ids"]).logits)
            bytes_of_image = processor.image(image.read_bytes())[None]
            (want,) = normalised(bytes_of_image, model.mean, model.std)
            # Pillow and the training's resizer round differently, by one level of 255 here.
            level = 1 / 255 / min(model.std)
            torch.testing.assert_close(made["pixels"], want, atol=1.01 * level, rtol=0)
            assert (made["pixels"] - want).abs().gt(1e-6).float().mean() < 0.15
            if kind != "cnn":
                torch.testing.assert_close(made["features"], model.encoder(made["pixels"][None]))


def test_what_no_export_wrote_is_left_alone(tmp_path: Path) -> None:
    model = saved(tmp_path, recipe_of(tmp_path / "parts"))
    mine = tmp_path / "mine"
    mine.mkdir()
    export_model(model, mine)  # an empty folder is nobody's
    (mine / "config.json").write_text(
        (mine / "config.json").read_text().replace('"name": "tiny"', '"name": "older"')
    )
    export_model(model, mine)  # and its own it replaces
    assert json.loads((mine / "config.json").read_text())["name"] == "tiny"

    (mine / "notes.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"holds notes.txt, which no export wrote.*--out"):
        export_model(model, mine)
    with pytest.raises(UsageError, match="is there already, and is no exported model"):
        export_model(model, model)
    with pytest.raises(UsageError, match="is a file"):
        export_model(model, mine / "notes.txt")
    for text in ("{", "[]", '{"model_type": "bloom"}'):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / "config.json").write_text(text)
        with pytest.raises(UsageError, match="is no exported model"):
            export_model(model, other)
    assert (mine / "notes.txt").read_text() == "keep"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "model", "other", "parts"]


def test_a_model_that_is_not_whole_leaves_nothing(tmp_path: Path) -> None:
    model = saved(tmp_path, recipe_of(tmp_path / "parts"))
    with pytest.raises(UsageError, match="no model of this project"):
        export_model(tmp_path / "parts", tmp_path / "export")
    export_model(model, tmp_path / "export")
    (tmp_path / "export" / "fusion.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UsageError, match=r"is not whole: fusion\.safetensors"):
        load_model(tmp_path / "export")
    with pytest.raises(UsageError, match=r"is not whole: fusion\.safetensors"):
        export_model(tmp_path / "export", tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".*"))


def _score(control: str, metric: str, score: float, low: float | None, high: float | None) -> Score:
    return Score(control, metric, "all", "all", 40, score, low, high)


def test_a_card_tells_what_is_known(tmp_path: Path) -> None:
    model = saved(tmp_path, recipe_of(tmp_path / "parts"))
    scores = (
        _score("image", "score", 0.61234, 0.55, 0.66),
        _score("no_image", "score", 0.6, 0.5, 0.65),
        _score("image minus no_image", "score", 0.01, -0.02, 0.04),
        _score("image", "strict", 0.7, None, None),
    )
    run = {
        "run_id": "r1",
        "processes": 2,
        "zero_stages": [1, 3],
        "seconds": 3723.4,
        "outcome": "done",
        "versions": {"torch": "2.0", "roundtrip": "0.1.0+1a2b3c4"},
    }
    known = Known(
        run=run,
        trained_on=(
            TrainedOn("gold.vqa_examples", 3, 1234),
            TrainedOn("gold.vlm_examples", 2, None),
        ),
        stages=(StageTrained("align", 80, 1280, 56_000, 1.23456, None),),
        evaluated=(Evaluated("gold.vqa_examples", 3, "split", "test", scores),),
        placed=(Placed(2, 5, "split", 3, 4, 0.6, 0.5, 0.7),),
        licences={"CC BY | <b>4.0</b>\n# x": 100, "": 3},
    )
    export_model(model, tmp_path / "export", known, licence="apache-2.0")
    card = ModelCard.load(tmp_path / "export" / "README.md")
    data = card.data.to_dict()
    assert (data["license"], data["pipeline_tag"]) == ("apache-2.0", "image-text-to-text")
    assert [(r.metric_type, r.metric_value) for r in card.data.eval_results] == [
        ("score", 0.61234), ("strict", 0.7)
    ]  # fmt: skip
    for told in (
        "Training run r1, checkpoint instruct-000002",
        "Not for diagnosis",
        "not told apart from its answers without one",
        "| gold.vqa_examples | 3 | 1,234 |",
        "| gold.vlm_examples | 2 | not known |",
        "| align | captions | fusion full | bf16 | 80 | 1,280 | 56,000 | 1.2346 |  |",
        "| instruct | vqa | fusion full | bf16 | not known |",
        "2 processes, ZeRO 1, 3, 3,723 s in training steps; outcome: done.",
        "| image | 61.2 [55.0, 66.0] | 70.0 |",
        "| no_image | 60.0 [50.0, 65.0] |  |",
        "| n | 40 | 40 |",
        "place 2 of 5, score 60.0 [50.0, 70.0]",
        "This model: apache-2.0",
        r"| CC BY \| \<b\>4.0\</b\> # x | 100 |",
        "| not stated | 3 |",
    ):
        assert told in card.text, told

    export_model(model, tmp_path / "export")  # no tables at hand
    told_by_facts = (tmp_path / "export" / "README.md").read_text()
    assert "| gold.vqa_examples | 3 | not known |" in told_by_facts
    assert "no whole evaluation of this checkpoint is recorded" in told_by_facts
    assert "The figures that it was trained on: not known." in told_by_facts
    assert json.loads((tmp_path / "export" / "config.json").read_text())["model_type"] == MODEL_TYPE

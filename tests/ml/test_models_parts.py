"""Encoders, language models and tokenizers: from where they come, and what is refused."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    ViTConfig,
)

from ml import recipe
from ml.models import build, processor_of
from ml.models.encoders import build_encoder
from ml.models.processor import normalised
from ml.models.tuning import tune
from pipelines.errors import DataRefused, UsageError
from tests.ml.test_models_tuning import stage
from tests.ml.tiny_models import tiny_batch, tiny_llm, tiny_model

BIOMED_CLIP = "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"


def encoder(kind: str, **fields: Any) -> recipe.Encoder:
    return recipe.Encoder.model_validate({"kind": kind, "image_px": 32} | fields)


def pixels(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "image_px", "tokens", "width"),
    [
        ("tf_efficientnet_lite0", 224, 49, 1280),
        ("vit_base_patch16_224", 224, 196, 768),
        ("vit_base_patch16_224", 448, 784, 768),
        ("swin_tiny_patch4_window7_224", 224, 49, 768),
        ("resnet18", 96, 9, 512),
    ],
)
def test_timm_encoders_give_patches_or_positions(
    name: str, image_px: int, tokens: int, width: int
) -> None:
    with torch.device("meta"):
        made = build_encoder(encoder("timm", name=name, image_px=image_px))
        assert made(torch.zeros(2, 3, image_px, image_px)).shape == (2, tokens, width)
    assert (made.tokens, made.width) == (tokens, width)


def test_an_unknown_architecture_is_refused_with_what_is_near() -> None:
    with pytest.raises(UsageError, match=r"no 'resnet_18'; did you mean resnet18\?"):
        build_encoder(encoder("timm", name="resnet_18"))
    with pytest.raises(UsageError, match="open_clip knows no 'ViT'"):
        build_encoder(encoder("open_clip", name="ViT"))


def test_weights_go_by_name_and_heads_are_left_out(tmp_path: Path) -> None:
    whole: Any = timm.create_model("resnet18", num_classes=7)
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "saved.pth")
    want = whole.eval().forward_features(pixels()).flatten(2).transpose(1, 2)
    for weights in (tmp_path, tmp_path / "model.safetensors", tmp_path / "saved.pth"):
        made = build_encoder(encoder("timm", name="resnet18", weights=str(weights)))
        assert torch.equal(made(pixels()), want)  # in training mode: statistics stay as they were


def test_weights_of_other_names_go_by_position_where_every_shape_fits(tmp_path: Path) -> None:
    whole: Any = timm.create_model("resnet18", num_classes=7)
    renamed = {f"_layer.{i}": v for i, v in enumerate(whole.state_dict().values())}
    path = tmp_path / "renamed.pth"
    torch.save(renamed, path)
    made = build_encoder(encoder("timm", name="resnet18", weights=str(path)))
    want = whole.eval().forward_features(pixels()).flatten(2).transpose(1, 2)
    assert torch.equal(made(pixels()), want)
    for wrong in (dict(reversed(renamed.items())), dict(list(renamed.items())[:-4])):
        torch.save(wrong, path)
        with pytest.raises(UsageError, match="of another architecture"):
            build_encoder(encoder("timm", name="resnet18", weights=str(path)))


def test_weights_that_lack_something_or_hold_code_are_refused(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", num_classes=0).state_dict()
    path = tmp_path / "weights.pth"
    torch.save({k: v for k, v in state.items() if k != "conv1.weight"}, path)
    with pytest.raises(UsageError, match=r"lacks 1 tensors of 120: conv1\.weight"):
        build_encoder(encoder("timm", name="resnet18", weights=str(path)))
    torch.save(state | {"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(UsageError, match=r"conv1.weight is \(3,\), not \(64, 3, 7, 7\)"):
        build_encoder(encoder("timm", name="resnet18", weights=str(path)))
    torch.save({"x": Path("code")}, path)
    with pytest.raises(UsageError, match="something else than tensors"):
        build_encoder(encoder("timm", name="resnet18", weights=str(path)))
    with pytest.raises(UsageError, match="holds no weights"):
        build_encoder(encoder("timm", name="resnet18", weights=str(tmp_path)))


def biomed_clip(folder: Path) -> dict[str, torch.Tensor]:
    """A folder as BiomedCLIP is published: its names, its config, a trunk of the real size."""
    vision = {
        "timm_model_name": "vit_base_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    config = {"embed_dim": 512, "vision_cfg": vision, "text_cfg": {"hf_model_name": "a text tower"}}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    trunk = timm.create_model("vit_base_patch16_224", num_classes=0, global_pool="").state_dict()
    state = {f"visual.trunk.{k}": v for k, v in trunk.items()}
    state |= {"visual.head.proj.weight": torch.zeros(512, 768), "logit_scale": torch.ones(())}
    state |= {"text.transformer.embeddings.word_embeddings.weight": torch.zeros(9, 4)}
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    return trunk


def test_biomed_clip_is_its_vision_trunk_by_the_published_names(tmp_path: Path) -> None:
    trunk = biomed_clip(tmp_path / "biomedclip")
    found = {"name": BIOMED_CLIP, "weights": str(tmp_path / "biomedclip")}
    made = build_encoder(encoder("open_clip", image_px=224, **found))
    own = made.body.state_dict()
    assert own.keys() == trunk.keys()
    assert all(torch.equal(own[name], value) for name, value in trunk.items())
    assert (made.tokens, made.width) == (196, 768)
    assert sum(p.numel() for p in made.parameters()) == 85_798_656  # ViT-B/16 without a head


def test_position_embeddings_are_interpolated_to_another_image_size(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    whole: Any = timm.create_model(name, num_classes=0, global_pool="")
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    made = build_encoder(encoder("timm", name=name, weights=str(tmp_path), image_px=448))
    assert made.tokens == 28**2
    # Of four times as many places each four have the mean of the one that they were.
    given, own = whole.pos_embed[0, 1:], made.body.pos_embed[0, 1:]
    halved = torch.nn.functional.avg_pool2d(own.T.reshape(1, -1, 28, 28), 2).flatten(2)[0].T
    assert torch.corrcoef(torch.stack([halved.flatten(), given.flatten()]))[0, 1] > 0.95


def test_a_vision_transformer_of_open_clip_gives_its_patches(tmp_path: Path) -> None:
    with torch.device("meta"):
        made = build_encoder(encoder("open_clip", name="ViT-B-32", image_px=224))
    assert (made.tokens, made.width) == (49, 768)


@pytest.mark.parametrize("kind", ["vit", "clip_vision_model", "clip"])
def test_a_vision_model_of_hugging_face_gives_its_patches(tmp_path: Path, kind: str) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
    }
    if kind == "vit":
        source = AutoModel.from_config(ViTConfig(**sizes), add_pooling_layer=False)
        source.save_pretrained(tmp_path)
    elif kind == "clip_vision_model":
        source = CLIPVisionModel(CLIPVisionConfig(**sizes))
        source.save_pretrained(tmp_path)
    else:  # both towers in one folder
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
        both = CLIPModel(CLIPConfig(vision_config=sizes, text_config=text))
        both.save_pretrained(tmp_path)
        source = both.vision_model
    made = build_encoder(encoder("huggingface", weights=str(tmp_path)))
    want = source.eval()(pixel_values=pixels()).last_hidden_state[:, 1:]
    assert torch.equal(made.eval()(pixels()), want)
    assert (made.tokens, made.width) == (16, 32)
    assert build_encoder(encoder("huggingface", weights=str(tmp_path), image_px=64)).tokens == 64
    with torch.device("meta"):
        assert build_encoder(encoder("huggingface", weights=str(tmp_path))).tokens == 16


def test_batch_statistics_do_not_learn(tmp_path: Path) -> None:
    made = build_encoder(encoder("timm", name="resnet18")).train()
    before = made.body.bn1.running_mean.clone()
    made(pixels())
    assert torch.equal(made.body.bn1.running_mean, before)
    assert made.body.training


BLOOMZ_7B1 = {
    "model_type": "bloom",
    "vocab_size": 250_880,
    "hidden_size": 4096,
    "n_layer": 30,
    "n_head": 32,
}
LLAMA_7B = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}


@pytest.mark.parametrize(
    ("config", "parameters"), [(BLOOMZ_7B1, 7_069_016_064), (LLAMA_7B, 6_738_415_616)]
)
@pytest.mark.parametrize("fusion", ["mlp_projector", "resampler", "gated_cross_attention"])
def test_seven_billion_parameters_have_shapes_without_memory(
    config: dict[str, Any], parameters: int, fusion: str
) -> None:
    """ViT-B/16, a fusion and an LLM of 7 B, built and run for its shapes."""
    fields = recipe.Model(
        encoder=encoder("timm", name="vit_base_patch16_224", image_px=224),
        llm=recipe.LanguageModel(path="not/there", config=config),
        fusion=recipe.Fusion.model_validate({"kind": fusion}),
    )
    start = time.process_time()
    model = build(fields, device="meta", dtype=torch.bfloat16)
    seconds = time.process_time() - start
    assert all(p.is_meta and p.dtype == torch.bfloat16 for p in model.parameters())
    assert sum(p.numel() for p in model.llm.parameters()) == parameters  # a tied head counts once
    widths = {"mlp_projector": 768 * 2 + 768 * 4096 + 4096 + 4096**2 + 4096}
    widths["gated_cross_attention"] = (len(range(3, model.llm.config.num_hidden_layers, 4))) * (
        2 * 768 + 2 * 4096 + 2 * 4096**2 + 2 * 768 * 4096  # cross-attention with its norms
        + 2 * 4096 + 8 * 4096**2 + 2  # feed-forward with its norm, two gates
    )  # fmt: skip
    if fusion in widths:
        assert sum(p.numel() for p in model.fusion.parameters()) == widths[fusion]
    tune(model, stage(llm="lora"))
    batch = tiny_batch(image_px=224).to("meta")
    assert model.logits(batch).shape == (3, 12, config["vocab_size"])
    assert seconds < 10


def test_what_is_nowhere_is_named_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS", str(tmp_path))
    nowhere = tiny_model(tmp_path).model_copy(
        update={"llm": recipe.LanguageModel(path="bigscience/bloomz-560m")}
    )
    place = tmp_path / "bigscience" / "bloomz-560m"
    for made in (build, processor_of):
        with pytest.raises(UsageError, match=f"neither at {place} .*MODELS.* nor in .*HF_HOME"):
            made(nowhere)
    there = {"llm": recipe.LanguageModel(path="bloom")}
    build(tiny_model(tmp_path).model_copy(update=there))


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for refused, fusion in (
        ("enter_layer is 4, and the llm has 4 layers", {"enter_layer": 4}),
        ("every_layers is 5", {"fusion": "gated_cross_attention", "every_layers": 5}),
        ("32 does not divide into 3", {"fusion": "gated_cross_attention", "heads": 3}),
        ("256 does not divide into 3", {"fusion": "resampler", "heads": 3}),
        ("no image tokens to enter", {"fusion": "gated_cross_attention", "enter_layer": 1}),
    ):
        with pytest.raises(UsageError, match=refused):
            build(tiny_model(tmp_path, "bloom", **fusion))
    for between in ({"enter_layer": 1}, {"fusion": "gated_cross_attention"}):
        with pytest.raises(UsageError, match=r"supported for bloom, llama, .* not for this gpt2"):
            build(tiny_model(tmp_path, "gpt2", **between))


def test_windows_of_attention_are_refused_between_layers(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 320}
    for window, refused in ((64, True), (None, False)):
        config = {"model_type": "mistral", "sliding_window": window, **sizes, **heads}
        fields = tiny_model(tmp_path, enter_layer=1).model_copy(
            update={"llm": recipe.LanguageModel(path="", config=config)}
        )
        if refused:
            with pytest.raises(UsageError, match="without sliding windows"):
                build(fields, device="meta")
        else:
            build(fields, device="meta")


def test_a_model_is_the_same_from_the_same_seed(tmp_path: Path) -> None:
    fields = tiny_model(tmp_path, "bloom", "resampler")
    one, same, other = (build(fields, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["fusion.out.weight"], other["fusion.out.weight"])
    assert torch.equal(one["llm.transformer.h.0.mlp.dense_h_to_4h.weight"],
                       other["llm.transformer.h.0.mlp.dense_h_to_4h.weight"])  # fmt: skip


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_an_image_keeps_its_shape_in_a_black_square(tmp_path: Path) -> None:
    processor = processor_of(tiny_model(tmp_path))
    wide = np.full((20, 40, 3), 255, np.uint8)
    wide[:, :20] = (255, 0, 0)
    made = processor.image(png(wide))
    assert made.shape == (3, 32, 32)
    assert made.dtype == torch.uint8
    assert (made[:, :8] == 0).all()
    assert (made[:, 24:] == 0).all()
    assert (made[:, 8:24, 18:] == 255).all()  # the white half
    assert (made[0, 8:24, :14] == 255).all()
    assert (made[1:, 8:24, :14] == 0).all()
    gray = processor.image(png(wide[..., 1]))
    assert torch.equal(gray, made[1].expand(3, -1, -1))


def test_an_image_is_normalised_by_channel(tmp_path: Path) -> None:
    fields = tiny_model(tmp_path)
    changed = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 0.2)}
    fields = fields.model_copy(update={"encoder": fields.encoder.model_copy(update=changed)})
    gray = processor_of(fields).image(png(np.full((32, 32), 51, np.uint8)))[None]  # 0.2
    made = normalised(gray, fields.encoder.mean, fields.encoder.std)
    torch.testing.assert_close(made[0, :, 5, 5], torch.tensor([0.2, 0.0, -0.5]))
    assert normalised(made, fields.encoder.mean, fields.encoder.std) is made
    assert gray.dtype == torch.uint8  # and as it was
    assert (gray == 51).all()

    model = build(fields)
    batch = tiny_batch((5,))
    by_hand = replace(batch, pixels=made)
    assert torch.equal(model.logits(replace(batch, pixels=gray)), model.logits(by_hand))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="of 4 bytes cannot be read"):
        processor_of(tiny_model(tmp_path)).image(b"text")


def test_a_tokenizer_without_padding_pads_with_the_end(tmp_path: Path) -> None:
    tiny_llm(tmp_path)
    path = tmp_path / "bloom" / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    processor = processor_of(tiny_model(tmp_path))
    assert (processor.pad_id, processor.eos_id) == (0, 1)
    del settings["pad_token"]
    path.write_text(json.dumps(settings), encoding="utf-8")
    assert processor_of(tiny_model(tmp_path)).pad_id == 1
    del settings["eos_token"]
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(UsageError, match="no token that ends a text"):
        processor_of(tiny_model(tmp_path))

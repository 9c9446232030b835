"""What is trained of each part in a stage, and that nothing else changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.models import VisionLanguageModel, build
from ml.models.tuning import parameter_groups, tune
from ml.recipe import PARTS, Lora, Recipe, Stage
from pipelines.errors import UsageError
from tests.ml.tiny_models import tiny_batch, tiny_model


def stage(lora: dict[str, Any] | None = None, **train: str) -> Stage:
    return Stage.model_validate(
        {
            "name": "one",
            "data": "vqa",
            "template": "plain",
            "steps": 1,
            "train": train,
            "lora": Lora.model_validate(lora or {}),
            "learning_rate": 1e-2,
            "learning_rate_of": {"encoder": 1e-3},
            "weight_decay": 0.1,
        }
    )


def step(model: VisionLanguageModel, of: Stage) -> set[str]:
    """One step of AdamW; the names of the parameters that it changed."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.train()
    optimiser = torch.optim.AdamW(parameter_groups(model, of))
    # Two, for the first gradient of half of each adapter is zero.
    for _ in range(2):
        optimiser.zero_grad()
        model(tiny_batch()).backward()
        optimiser.step()
    return {
        name for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_trained_changes_and_the_others_do_not(tmp_path: Path, part: str) -> None:
    model = build(tiny_model(tmp_path))
    alone = stage(None, **{"fusion": "frozen", part: "full"})
    tune(model, alone)
    assert {name.split(".")[0] for name in step(model, alone)} == {part}


def test_lora_changes_nothing_but_adapters(tmp_path: Path) -> None:
    model = build(tiny_model(tmp_path))
    with torch.no_grad():
        before = model.logits(tiny_batch())
    lora = stage(fusion="frozen", llm="lora")
    tune(model, lora)
    with torch.no_grad():
        assert torch.equal(model.logits(tiny_batch()), before)  # new adapters add zero
    adapters = {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert len(adapters) == 2 * 4 * 4  # two matrices for each of four linear layers of each layer
    assert step(model, lora) == adapters


def test_adapters_stand_where_the_recipe_says(tmp_path: Path) -> None:
    model = build(tiny_model(tmp_path, "llama"))
    tune(model, stage({"rank": 2, "targets": ("q_proj", "mlp.up_proj")}, llm="lora"))
    made = {n: p for n, p in model.named_parameters() if ".lora_A" in n}
    assert len(made) == 2 * 4
    assert all(".q_proj." in name or ".mlp.up_proj." in name for name in made)
    assert {p.shape for p in made.values()} == {(2, 32)}


def test_targets_that_are_not_there_are_named(tmp_path: Path) -> None:
    model = build(tiny_model(tmp_path))
    with pytest.raises(UsageError, match=r"llm has no q_proj; its linear layers are .*query_key"):
        tune(model, stage({"targets": ("q_proj",)}, llm="lora"))
    with pytest.raises(UsageError, match="encoder cannot be adapted; it has no linear layers"):
        tune(model, stage(encoder="lora"))


def test_adapters_are_the_same_in_every_process_and_kept_from_stage_to_stage(
    tmp_path: Path,
) -> None:
    one, other = build(tiny_model(tmp_path)), build(tiny_model(tmp_path))
    lora = stage(llm="lora")
    tune(one, lora)
    torch.manual_seed(99)
    tune(other, lora)
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
    step(one, lora)
    learnt = {n: p.detach().clone() for n, p in one.named_parameters()}
    tune(one, stage(llm="frozen"))
    assert {n for n, p in one.named_parameters() if p.requires_grad} == {
        n for n in learnt if n.startswith("fusion.")
    }
    tune(one, lora)
    for name, value in one.named_parameters():
        assert torch.equal(value, learnt[name]), name


def test_a_part_trained_whole_after_its_adapters_goes_on_from_what_they_learnt(
    tmp_path: Path,
) -> None:
    model = build(tiny_model(tmp_path))
    names = set(dict(model.named_parameters()))
    lora = stage(llm="lora")
    tune(model, lora)
    step(model, lora)
    with torch.no_grad():
        learnt = model.logits(tiny_batch())
    tune(model, stage(llm="full"))
    assert {n for n, _ in model.named_parameters()} == names
    with torch.no_grad():
        torch.testing.assert_close(model.logits(tiny_batch()), learnt, atol=1e-4, rtol=1e-4)
    assert all(p.requires_grad for p in model.llm.parameters())


def test_parameter_groups_have_rates_by_part_and_no_decay_on_vectors(tmp_path: Path) -> None:
    model = build(tiny_model(tmp_path, fusion="gated_cross_attention"))
    whole = stage(encoder="full", fusion="full", llm="full")
    tune(model, whole)
    groups = parameter_groups(model, whole)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("encoder weights", 1e-3, 0.1),
        ("encoder vectors", 1e-3, 0.0),
        ("fusion weights", 1e-2, 0.1),
        ("fusion vectors", 1e-2, 0.0),
        ("llm weights", 1e-2, 0.1),
        ("llm vectors", 1e-2, 0.0),
    ]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    assert all(p.ndim == 1 for g in groups[1::2] for p in g["params"])


def test_a_frozen_encoder_has_no_gradients_and_no_dropout(tmp_path: Path) -> None:
    model = build(tiny_model(tmp_path)).train()
    tune(model, stage())
    assert model.training
    assert not model.encoder.training
    model(tiny_batch()).backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    tune(model, stage(encoder="full"))
    assert model.encoder.training


@pytest.mark.parametrize("fusion", ["mlp_projector", "resampler"])
def test_frozen_layers_below_the_image_keep_nothing_for_a_backward_pass(
    tmp_path: Path, fusion: str
) -> None:
    model = build(tiny_model(tmp_path, "llama", fusion, enter_layer=2))
    tune(model, stage())
    with_graph = []
    for layer in model.llm.model.layers:
        layer.register_forward_hook(lambda m, a, out: with_graph.append(out.requires_grad))
    model.train()(tiny_batch())
    assert with_graph == [False, False, True, True]
    with_graph.clear()
    tune(model, stage(llm="full"))
    model(tiny_batch())
    assert with_graph == [True] * 4


@pytest.mark.parametrize(
    ("llm", "fusion", "changes", "inner"),
    [
        ("bloom", "gated_cross_attention", {}, "CrossAttention"),
        ("llama", "resampler", {"enter_layer": 2}, "LlamaAttention"),
        ("gpt2", "mlp_projector", {}, "GPT2Attention"),
    ],
)
def test_gradient_checkpointing_changes_no_gradient(
    tmp_path: Path, llm: str, fusion: str, changes: dict[str, int], inner: str
) -> None:
    """With two batches before the backward pass, as some loops have it."""
    calls: Counter[str] = Counter()

    def gradients(enable: bool) -> dict[str, torch.Tensor]:
        model = build(tiny_model(tmp_path, llm, fusion, **changes)).train()
        for name, value in model.named_parameters():
            if name.endswith("_gate"):
                value.data.fill_(0.7)
        model.gradient_checkpointing(enable)
        calls.clear()
        for module in [*model.fusion.modules(), *model.llm.modules()]:
            module.register_forward_hook(lambda module, *_: calls.update([type(module).__name__]))
        torch.manual_seed(3)  # of dropout
        (model(tiny_batch(seed=1)) + model(tiny_batch(seed=2))).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    plain, once = gradients(False), dict(calls)
    again, twice = gradients(True), dict(calls)
    assert twice[inner] == 2 * once[inner]
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, msg=name)


def test_a_recipe_has_one_shape_of_adapters_for_a_part(tmp_path: Path) -> None:
    stages = [
        stage({"rank": rank}, llm="lora").model_copy(update={"name": f"r{rank}"}) for rank in (4, 8)
    ]
    with pytest.raises(ValueError, match="the llm keeps its adapters"):
        Recipe(name="x", model=tiny_model(tmp_path), stages=tuple(stages))


@pytest.mark.parametrize(
    ("tokens", "autocast", "checkpointing", "fused"),
    [
        (20, True, False, False),
        (200, True, False, True),
        (20, False, False, True),
        (20, True, True, True),  # layers are run again, which has to be with the same kernel
    ],
)
def test_short_texts_in_16_bits_have_plain_attention_on_a_cpu(
    tmp_path: Path, tokens: int, autocast: bool, checkpointing: bool, fused: bool
) -> None:
    model = build(tiny_model(tmp_path, "llama", enter_layer=2)).train()
    model.gradient_checkpointing(checkpointing)
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen,
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        model(tiny_batch((tokens, 9))).backward()
    kernels = {event.key for event in seen.key_averages()}
    assert ("aten::_scaled_dot_product_flash_attention_for_cpu_backward" in kernels) == fused
    assert any(p.grad is not None for p in model.llm.parameters())

"""What passes hold beside weights and gradients: from shapes, beside the bytes that really live."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ml.memory.activations import Activations, LiveBytes, activations
from ml.memory.subject import Subject, bloom, subject_of
from ml.models import build
from ml.models.tuning import tune
from ml.recipe import Model, Recipe, Stage
from tests.ml.tiny_models import tiny_batch, tiny_model

TOKENS = 24


def stage(**changes: Any) -> Stage:
    fields = {
        "name": "s",
        "data": "vqa",
        "template": "plain",
        "steps": 1,
        "max_tokens": TOKENS,
        "train": {"fusion": "full", "llm": "full"},
        "precision": "fp32",
    }
    return Stage.model_validate(fields | changes)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def real_live_bytes(model: Any, checkpointing: bool) -> tuple[int, int]:
    """Bytes of real tensors beside the model: after the forward pass, and the most at any time."""
    tune(model, stage())
    model.train().gradient_checkpointing(checkpointing)

    def loss() -> Tensor:
        batch = tiny_batch((TOKENS,) * 4)
        logits = model.logits(batch)[:, :-1]
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1), batch.input_ids[:, 1:].flatten(), reduction="sum"
        )

    with LiveBytes() as live:
        for tensor in (*model.parameters(), *model.buffers()):
            live.knows(tensor)
        value = loss()
        saved = live.live
        value.backward()
    return saved, live.peak


@pytest.fixture(scope="module", params=["mlp_projector", "resampler", "gated_cross_attention"])
def described(models: Path, request: pytest.FixtureRequest) -> Model:
    return tiny_model(models, "llama", request.param)


@pytest.fixture(scope="module")
def subject(described: Model) -> Subject:
    return subject_of(Recipe(name="tiny", model=described, stages=(stage(),)), stage())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_shapes_alone_say_what_real_tensors_hold(
    described: Model, subject: Subject, checkpointing: bool
) -> None:
    planned = subject.activations(4, checkpointing)
    saved, peak = real_live_bytes(build(described), checkpointing)
    assert planned.saved == pytest.approx(saved, rel=0.02)
    assert planned.peak(share=1.0) == pytest.approx(peak, rel=0.05)


def test_checkpointing_keeps_less_and_a_larger_batch_more(subject: Subject) -> None:
    whole, less = (subject.activations(4, checkpointing) for checkpointing in (False, True))
    assert less.saved < 0.6 * whole.saved
    assert less.logits == whole.logits
    assert subject.activations(8, False).saved > 1.9 * whole.saved


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_large_batch_is_on_the_line_of_small_ones(subject: Subject, checkpointing: bool) -> None:
    """Where the peak is may change with the size, so a peak may be a little off."""
    said, real = subject.activations(11, checkpointing), subject._counted(11, checkpointing, False)
    assert (said.saved, said.logits) == (real.saved, real.logits)
    assert said.peak() == pytest.approx(real.peak(), rel=0.01)
    assert said.peak(share=1.0) == pytest.approx(real.peak(share=1.0), rel=0.01)


def test_logits_are_counted_as_wide_as_the_vocabulary() -> None:
    """Bloom's of bf16, their fp32 copy, its gradient: the most that the loss has at a time."""
    tokens, micro_batch = 32, 2
    subject = bloom(20_000_000, tokens=tokens, precision="bf16")
    vocabulary = subject._vocabulary
    found = subject.activations(micro_batch, False).logits
    one = micro_batch * tokens * vocabulary
    assert 8 * one <= found <= 14 * one


def test_frozen_layers_keep_nothing_for_the_backward_pass(models: Path) -> None:
    described = tiny_model(models, "llama")
    recipe = Recipe(name="tiny", model=described, stages=(stage(),))
    frozen_below = stage(train={"fusion": "frozen", "llm": "full", "llm_from_layer": 3})
    whole = subject_of(recipe, stage()).activations(4, False)
    above = subject_of(recipe, frozen_below).activations(4, False)
    assert above.saved < 0.6 * whole.saved


def test_zero_3_keeps_inputs_of_frozen_layers() -> None:
    """Its linear function saves them for a gradient of the weight that nobody asks for."""
    layers = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64, bias=False))
    layers[1].requires_grad_(False)

    def loss() -> Tensor:
        return layers(torch.zeros(16, 64)).sum()

    plain, of_zero_3 = (
        activations(layers, loss, precision="fp32", vocabulary=0, zero_3=zero_3)
        for zero_3 in (False, True)
    )
    assert of_zero_3.saved == plain.saved + 16 * 64 * 4


def test_a_hand_made_layer_is_counted_to_the_byte() -> None:
    """A linear layer keeps its input for the gradient of its weight, and the loss keeps nothing."""
    layer = nn.Linear(64, 32, bias=False)

    def loss() -> Tensor:
        return layer(torch.zeros(16, 64)).sum()

    found = activations(layer, loss, precision="fp32", vocabulary=0)
    assert found.saved == 16 * 64 * 4 + 4  # the input, and the loss itself
    assert found.profile[-1][0] == 64 * 32 * 4  # its gradient
    assert layer.weight.grad is None


def test_live_bytes_forget_what_is_gone() -> None:
    with LiveBytes() as live:
        one = torch.zeros(1000)
        view = one[:10]
        del one
        assert live.live == 4000  # the view keeps all of it
        del view
        gc.collect()
        assert live.live == 0
        assert live.peak == 4000


def test_a_line_of_activations_goes_through_both() -> None:
    one = Activations(saved=10, logits=4, profile=((0, 20), (8, 30)))
    other = Activations(saved=13, logits=5, profile=((0, 21), (8, 34)))
    assert one.continued(other, 0) == one
    assert one.continued(other, 1) == other
    assert one.continued(other, 3) == Activations(19, 7, ((0, 23), (8, 42)))


def test_a_subject_is_run_once_for_each_question() -> None:
    calls: list[int] = []

    def loss(model: nn.Module, micro_batch: int) -> Tensor:
        calls.append(micro_batch)
        return model(torch.zeros(micro_batch, 8)).sum()

    with torch.device("meta"):
        model = nn.Linear(8, 8)
    subject = Subject(
        model,
        precision="fp32",
        vocabulary=0,
        loss=loss,
        checkpointing=lambda model, on: None,
    )
    for size in (512, 256, 128, 64, 2):
        subject.activations(size, True)
    assert calls == [2, 3]

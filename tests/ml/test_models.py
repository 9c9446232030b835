"""The parts put together: what comes out, and that images change what they should and no more."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from ml.batch import Batch
from ml.models import VisionLanguageModel, build
from tests.ml.tiny_models import tiny_batch, tiny_llm, tiny_model

FUSIONS = [
    ("bloom", "mlp_projector", {}),
    ("bloom", "mlp_projector", {"tokens": 1, "enter_layer": 2}),
    ("bloom", "resampler", {"enter_layer": 1}),
    ("bloom", "gated_cross_attention", {}),
    ("llama", "mlp_projector", {}),
    ("llama", "mlp_projector", {"enter_layer": 2}),
    ("llama", "resampler", {}),
    ("llama", "gated_cross_attention", {}),
    ("gpt2", "mlp_projector", {}),
]
every_fusion = pytest.mark.parametrize(("llm", "fusion", "changes"), FUSIONS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    for kind in ("bloom", "llama", "gpt2"):
        tiny_llm(made, kind)
    return made


def one(batch: Batch, row: int) -> Batch:
    """An example of a batch alone, without its padding."""
    length = int(batch.attention_mask[row].sum())
    part = slice(row, row + 1)
    return Batch(
        (batch.example_ids[row],),
        batch.pixels[part],
        batch.has_image[part],
        batch.input_ids[part, :length],
        batch.attention_mask[part, :length],
        batch.labels[part, :length],
    )


def opened(model: VisionLanguageModel) -> VisionLanguageModel:
    """The model with its gates off zero, where it has any, as after some training."""
    for name, value in model.named_parameters():
        if name.endswith("_gate"):
            value.data.fill_(0.7)
    return model.eval()


@every_fusion
def test_without_an_image_the_language_model_stands_alone(
    folder: Path, llm: str, fusion: str, changes: dict[str, int]
) -> None:
    model = opened(build(tiny_model(folder, llm, fusion, **changes)))
    batch = tiny_batch(images=(False, True, False))
    alone = AutoModelForCausalLM.from_pretrained(folder / llm).eval()
    with torch.no_grad():
        made = model.logits(batch)
        for row in (0, 2):
            length = int(batch.attention_mask[row].sum())
            want = alone(one(batch, row).input_ids).logits[0]
            torch.testing.assert_close(made[row, :length], want, atol=2e-5, rtol=1e-4)
        seen = alone(one(batch, 1).input_ids).logits[0]
    assert (made[1, : len(seen)] - seen).abs().max() > 1e-2  # the one with an image does differ


@pytest.mark.parametrize("llm", ["bloom", "llama"])
def test_gates_that_are_zero_leave_the_language_model_as_it_was(folder: Path, llm: str) -> None:
    model = build(tiny_model(folder, llm, "gated_cross_attention")).eval()
    batch = tiny_batch()
    alone = AutoModelForCausalLM.from_pretrained(folder / llm).eval()
    with torch.no_grad():
        made = model.logits(batch)
        blank = model.logits(dataclasses.replace(batch, has_image=torch.zeros(3, dtype=torch.bool)))
        want = alone(batch.input_ids, attention_mask=batch.attention_mask.long()).logits
    assert torch.equal(made, blank)
    there = batch.attention_mask
    assert torch.equal(made[there], want[there])  # to the last bit


@every_fusion
def test_an_example_does_not_see_what_it_is_batched_with(
    folder: Path, llm: str, fusion: str, changes: dict[str, int]
) -> None:
    model = opened(build(tiny_model(folder, llm, fusion, **changes)))
    batch = tiny_batch(images=(True, False, True))
    with torch.no_grad():
        apart = sum(float(model(one(batch, row))) for row in range(3))
        assert float(model(batch)) == pytest.approx(apart, rel=1e-5)


@every_fusion
def test_the_loss_is_a_sum_over_the_labels_of_the_logits(
    folder: Path, llm: str, fusion: str, changes: dict[str, int]
) -> None:
    model = opened(build(tiny_model(folder, llm, fusion, **changes)))
    batch = tiny_batch()
    with torch.no_grad():
        logits = model.logits(batch)
        loss = model(batch)
    want = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
    )
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    torch.testing.assert_close(loss, want, atol=1e-3, rtol=1e-5)


@every_fusion
def test_answers_in_a_batch_are_those_of_each_question_alone(
    folder: Path, llm: str, fusion: str, changes: dict[str, int]
) -> None:
    model = opened(build(tiny_model(folder, llm, fusion, **changes)))
    batch = tiny_batch((7, 3, 11, 1), images=(True, True, False, True))
    together = model.generate(batch, 12)
    for row, answer in enumerate(together):
        (alone,) = model.generate(one(batch, row), 12)
        assert answer.tokens == alone.tokens == greedy(model, one(batch, row), 12)
        assert answer.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-4)


@every_fusion
def test_an_answer_that_ends_early_leaves_the_others_as_they_are(
    folder: Path, llm: str, fusion: str, changes: dict[str, int]
) -> None:
    model = opened(build(tiny_model(folder, llm, fusion, **changes)))
    batch = tiny_batch((7, 3, 11, 1), images=(True, True, False, True))
    model.eos_id = -1
    endless = [made.tokens for made in model.generate(batch, 12)]
    assert {len(tokens) for tokens in endless} == {12}
    for row, tokens in enumerate(endless):
        model.eos_id = tokens[4]
        ended = model.generate(batch, 12)
        assert [made.tokens for made in ended] == [
            tokens[: tokens.index(model.eos_id)] if model.eos_id in tokens else tokens
            for tokens in endless
        ]
        (alone,) = model.generate(one(batch, row), 12)
        assert ended[row].log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-4)


def greedy(model: VisionLanguageModel, batch: Batch, tokens: int) -> list[int]:
    """The same with no cache: the whole text again for every token."""
    ids = batch.input_ids
    made: list[int] = []
    while len(made) < tokens:
        whole = Batch(
            (0,), batch.pixels, batch.has_image, ids, torch.ones_like(ids, dtype=torch.bool), ids
        )
        with torch.no_grad():
            best = int(model.logits(whole)[0, -1].argmax())
        if best == model.eos_id:
            break
        made.append(best)
        ids = torch.cat([ids, torch.tensor([[best]])], dim=1)
    return made


@every_fusion
def test_every_parameter_of_the_fusion_learns(
    folder: Path, llm: str, fusion: str, changes: dict[str, int]
) -> None:
    model = build(tiny_model(folder, llm, fusion, **changes))
    opened(model).train()
    model(tiny_batch()).backward()
    for name, value in model.fusion.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


@every_fusion
def test_a_batch_without_images_has_gradients_of_zero(
    folder: Path, llm: str, fusion: str, changes: dict[str, int]
) -> None:
    """And not none, nor any that is not a number: ranks wait for each other's."""
    model = build(tiny_model(folder, llm, fusion, **changes)).train()
    model(tiny_batch(images=(False, False, False))).backward()
    for part in (model.fusion, model.encoder):
        for name, value in part.named_parameters():
            assert value.grad is not None, name
            assert float(value.grad.abs().sum()) == 0, name
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

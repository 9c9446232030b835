"""What is not trained is computed once, and everything is as if it had not been kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ml.models import build
from ml.models.kept_outputs import KeptOutputs, key_of
from ml.models.tuning import tune
from ml.models.vision_language_model import VisionLanguageModel
from ml.recipe import Stage
from pipelines.errors import UsageError
from tests.ml.tiny_models import tiny_batch, tiny_model


def stage(**train: object) -> Stage:
    fields = {"name": "s", "data": "vqa", "template": "plain", "steps": 1, "train": train}
    return Stage.model_validate(fields)


def gradients(model: VisionLanguageModel) -> dict[str, torch.Tensor]:
    model.zero_grad()
    batches = (tiny_batch(images=(True, False, True)), tiny_batch((5, 9, 3), seed=1))
    loss = sum(model(b) for b in batches) + model(batches[0])
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("llm", ["bloom", "llama"])
@pytest.mark.parametrize("most_bytes", [10**7, 3000, 0])
def test_kept_outputs_change_no_gradient(tmp_path: Path, llm: str, most_bytes: int) -> None:
    model = build(tiny_model(tmp_path, llm, tokens=4, enter_layer=2))
    tune(model, stage(llm="full", llm_from_layer=2))
    model.train()
    asked = gradients(model)
    assert {n.split(".")[0] for n in asked} == {"fusion", "llm"}
    calls: list[str] = []
    model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    model.keep_frozen_outputs(most_bytes)
    for _ in range(2):
        kept = gradients(model)
        assert kept.keys() == asked.keys()
        for name, value in asked.items():
            torch.testing.assert_close(kept[name], value, rtol=2e-5, atol=1e-6, msg=name)
    # Two batches of images, the first of which comes twice.
    assert len(calls) == (2 if most_bytes == 10**7 else 6)


def test_nothing_is_kept_of_what_is_trained_or_asked_outside_of_training(tmp_path: Path) -> None:
    model = build(tiny_model(tmp_path, enter_layer=2))
    tune(model, stage(encoder="full", llm="full"))
    model.train()
    model.keep_frozen_outputs(10**7)
    first = model(tiny_batch())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    assert not torch.allclose(model(tiny_batch()), first)


def test_a_key_is_of_the_content_and_a_value_is_a_copy() -> None:
    values = torch.arange(12.0).view(4, 3)
    assert key_of(values[1]) == key_of(values[1].clone()) != key_of(values[2])
    kept = KeptOutputs(1000)
    (once,) = kept.of([b"a"], lambda missing: [values[i] for i in missing])
    values.zero_()
    (again,) = kept.of([b"a"], lambda missing: [])
    assert again.tolist() == [0, 1, 2]
    assert once.shape == again.shape


@pytest.mark.parametrize("how", ["full", "lora"])
def test_layers_below_stay_frozen(tmp_path: Path, how: str) -> None:
    model = build(tiny_model(tmp_path, enter_layer=1))
    tune(model, stage(llm=how, llm_from_layer=3))
    trained = [n for n, p in model.llm.named_parameters() if p.requires_grad]
    assert trained
    assert all(".3." in n or "ln_f" in n for n in trained)
    with pytest.raises(UsageError, match="the llm has 4 layers"):
        tune(model, stage(llm=how, llm_from_layer=4))

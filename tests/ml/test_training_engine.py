"""What is made of a model before DeepSpeed has it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import deepspeed
import pytest
import torch

from ml.models import build
from ml.models.tuning import parameter_groups, tune
from ml.recipe import Stage
from ml.training.engine import open_engine
from tests.ml.tiny_models import tiny_batch, tiny_model


def test_under_zero_3_parameters_have_16_bits_and_frequencies_of_positions_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepspeed.zero, "Init", lambda **_: None)
    monkeypatch.setattr(
        deepspeed, "initialize", lambda **_: (SimpleNamespace(optimizer=None), None)
    )
    stage = Stage.model_validate(
        {"name": "s", "data": "vqa", "template": "plain", "steps": 1, "precision": "bf16"}
        | {"zero_stage": 3, "train": {"encoder": "full", "fusion": "full", "llm": "full"}}
    )
    model = build(tiny_model(tmp_path, "llama"), dtype=torch.bfloat16)
    frequencies = dict(model.llm.named_buffers())["model.rotary_emb.inv_freq"].clone()
    assert not torch.equal(frequencies, frequencies.bfloat16().float())
    model.fusion.float()
    tune(model, stage)
    open_engine(model, parameter_groups(model, stage), stage, {})
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(dict(model.llm.named_buffers())["model.rotary_emb.inv_freq"], frequencies)
    model.train()(tiny_batch()).backward()

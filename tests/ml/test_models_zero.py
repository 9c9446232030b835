"""Models under DeepSpeed: on two ranks as on one, with images or without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ml.ranks import IMPORTABLE
from tests.ml.tiny_models import tiny_model

WHOLE = {"encoder": "full", "fusion": "full", "llm": "full"}
CASES: list[dict[str, Any]] = [
    {"llm": "bloom", "fusion": "mlp_projector", "zero_stage": 1, "train": WHOLE},
    {"llm": "llama", "fusion": "gated_cross_attention", "zero_stage": 2, "train": WHOLE},
    {"llm": "llama", "fusion": "gated_cross_attention", "zero_stage": 3, "train": WHOLE},
    {"llm": "bloom", "fusion": "gated_cross_attention", "zero_stage": 3, "train": WHOLE,
     "checkpointing": True},
    {"llm": "llama", "fusion": "resampler", "zero_stage": 3, "train": {"llm": "lora"},
     "enter_layer": 2, "checkpointing": True},
    {"llm": "bloom", "fusion": "resampler", "zero_stage": 3, "train": {}, "enter_layer": 2,
     "precision": "bf16_autocast"},
    {"llm": "llama", "fusion": "mlp_projector", "zero_stage": 3, "train": WHOLE,
     "precision": "bf16"},
    {"llm": "bloom", "fusion": "gated_cross_attention", "zero_stage": 2, "train": WHOLE,
     "precision": "bf16"},
    {"llm": "llama", "fusion": "resampler", "zero_stage": 1, "train": WHOLE,
     "precision": "fp16", "enter_layer": 1},
]  # fmt: skip
# Of the mean loss a token, about 6 nats. With 16 bits everything is rounded, weights too.
TOLERANCES = {"fp32": 1e-4, "bf16_autocast": 0.02, "bf16": 0.1, "fp16": 0.05}


@pytest.mark.slow
def test_two_ranks_have_the_losses_of_one_process(tmp_path: Path) -> None:
    """With images, then one rank without any, then one without examples, then the first again."""
    plan = []
    for case in CASES:
        entered = {"enter_layer": case["enter_layer"]} if "enter_layer" in case else {}
        model = tiny_model(tmp_path, case["llm"], case["fusion"], **entered)
        plan.append({"precision": "fp32", "steps": 4, **case, "model": model.model_dump()})
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    env = {**os.environ, **IMPORTABLE, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.ml.model_ranks", str(tmp_path / "plan.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    made, plain = json.loads((tmp_path / "plan.json.out").read_text(encoding="utf-8"))
    for case, of_ranks, of_one in zip(plan, made, plain, strict=True):
        allowed = TOLERANCES[case["precision"]]
        name = {key: case[key] for key in ("llm", "fusion", "zero_stage", "precision")}
        assert of_ranks == pytest.approx(of_one, abs=allowed), name
        assert of_one[3] < of_one[0] - 2 * allowed, name  # it has learnt from the same batch

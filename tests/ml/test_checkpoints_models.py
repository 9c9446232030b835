"""Checkpoints of vision-language models: shared embeddings, adapters, a part that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ml.test_checkpoints import do, run, whole_tensors
from tests.ml.tiny_models import tiny_llm

LOSS_TOLERANCE = 1e-4
"""Between world sizes and stages; the tiny models' weights are large."""
# Fields of a Run; which ZeRO stage reads it.
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "all-trained": (
        {"stage": 2, "tunings": {"encoder": "full", "fusion": "full", "llm": "full"}},
        3,
    ),
    "gated-lora": (
        {
            "stage": 3,
            "fusion": "gated_cross_attention",
            "tunings": {"fusion": "full", "llm": "lora"},
        },
        1,
    ),
    "lora-alone": (
        {
            "stage": 1,
            "precision": "bf16",
            "tunings": {"fusion": "frozen", "llm": "lora"},
            "carried": ["fusion.out.weight"],
        },
        0,
    ),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Saved at world size 2; read there by the same stage, at 3 by another."""
    folder = tmp_path_factory.mktemp("checkpoints")
    models = folder / "models"
    tiny_llm(models)
    writers, same, others = [], [], []
    for name, (fields, stage) in MODELS.items():
        given = {**fields, "models": str(models), "more_steps": 2}
        read = {**given, "load": str(folder / name / "a"), "save": ["again"]}
        writers.append(run(folder, name, **given, steps=2, save=["a"]))
        same.append(run(folder, f"{name}-same", **read))
        others.append(run(folder, f"{name}-other", **{**read, "stage": stage}))
    plan = [{"world": 2, "engines": writers + same}, {"world": 3, "engines": others}]
    return folder, do(plan, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_vision_language_models_go_on(
    results: tuple[Path, dict[str, dict[str, Any]]], name: str
) -> None:
    folder, found = results
    written, same, other = found[name], found[f"{name}-same"], found[f"{name}-other"]
    assert same["loaded_weights"] == other["loaded_weights"] == written["weights"]
    # A product of matrices may be rounded otherwise where they lie otherwise in memory.
    assert same["more"] == pytest.approx(written["more"], rel=1e-6)
    tolerance = 2e-2 if MODELS[name][0].get("precision") == "bf16" else LOSS_TOLERANCE
    assert other["more"] == pytest.approx(written["more"], rel=tolerance)
    before, after = (
        whole_tensors(folder / f / c) for f, c in ((name, "a"), (f"{name}-other", "again"))
    )
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


@pytest.mark.slow
def test_adapters_alone_are_written_of_a_model_with_adapters(
    results: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    folder, _ = results
    names = {
        n.split("/", 1)[1] for n in whole_tensors(folder / "lora-alone" / "a") if "exp_avg" in n
    }
    assert names
    assert all(".lora_" in name for name in names)
    heads = [n for n in whole_tensors(folder / "all-trained" / "a") if "lm_head" in n]
    assert heads == []  # the embedding has its values

"""A stage over ranks: one gradient whatever the ranks, the ZeRO stage and the micro-batches; steps
that are not finite; what is trained. tests/ml/training_ranks.py does it, one plan for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.ml.tiny_models import tiny_llm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
STAGES = (0, 1, 2, 3)
TOLERANCE = 2e-5
"""Of losses in fp32: sums over ranks and micro-batches are taken in another order."""
TOLERANCES_16 = {"bf16": 0.01, "fp16": 0.002, "bf16_autocast": 0.01}
"""Of losses of about 6, to those of plain fp32."""
LORA = {"train": {"encoder": "frozen", "fusion": "frozen", "llm": "lora"}, "lora": {"rank": 2}}
SICK_STEP = 3
PEAK = 1e9  # FLOP/s

RUNS: dict[str, tuple[int, dict[str, Any]]] = {
    # World, and the fields of a Run; world 0 is plain torch.
    "plain": (0, {}),
    "one": (1, {"accumulation": 4, "stage": {"zero_stage": 2}}),
    **{
        f"fp32-{z}": (2, {"stage": {"zero_stage": z, "validate_every": 4}, "peak": PEAK})
        for z in STAGES
    },
    **{
        f"{precision}-{z}": (2, {"stage": {"zero_stage": z, "precision": precision}})
        for precision in TOLERANCES_16
        for z in ((0, 2) if precision != "bf16_autocast" else (3,))
    },
    **{
        f"sick-{precision}-{z}": (
            2,
            {"stage": {"zero_stage": z, "precision": precision}, "sick": [SICK_STEP]},
        )
        for precision, z in (("fp32", 0), ("fp32", 3), ("bf16", 2), ("fp16", 1))
    },
    "futile": (2, {"stage": {"zero_stage": 2, "most_skipped": 2}, "sick": [1, 3, 4]}),
    "lora": (2, {"stage": {"zero_stage": 3, **LORA}}),
    "checkpointed": (2, {"stage": {"zero_stage": 3, "gradient_checkpointing": True}, "peak": PEAK}),
}

Result = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of all runs."""
    folder = tmp_path_factory.mktemp("training")
    tiny_llm(folder)
    groups: dict[int, list[dict[str, Any]]] = {}
    for name, (world, fields) in RUNS.items():
        of_run = {"result": str(folder / f"{name}.json"), "models": str(folder), **fields}
        groups.setdefault(world, []).append(of_run)
    plan = folder / "plan"
    plan.write_text(json.dumps([{"world": w, "engines": e} for w, e in groups.items()]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.ml.training_ranks", str(plan)],
        env={**os.environ, **ENVIRONMENT},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder


@pytest.fixture
def result(folder: Path) -> Result:
    return lambda name: json.loads((folder / f"{name}.json").read_text())


def losses(result: dict[str, Any]) -> list[float]:
    return [row["loss"] for row in result["rows"]]


def weights(folder: Path, name: str, which: str = "after") -> dict[str, Tensor]:
    return load_file(folder / f"{name}.{which}.safetensors")


@pytest.mark.parametrize("name", ["one", *(f"fp32-{z}" for z in STAGES)])
def test_any_ranks_and_any_zero_stage_train_as_plain_torch_does(
    result: Result, folder: Path, name: str
) -> None:
    # Examples have 4 to 15 tokens, so ranks and micro-batches have different counts of labels: a
    # mean of their means would differ in the second digit.
    plain = result("plain")
    assert losses(result(name)) == pytest.approx(plain["losses"], abs=TOLERANCE)
    norms = [row["gradient_norm"] for row in result(name)["rows"]]
    assert norms == pytest.approx(plain["norms"], rel=1e-4)
    # Adam moves a weight whose gradient is rounding alone by as much as any other.
    theirs, ours = weights(folder, "plain"), weights(folder, name)
    far = sum(int(((ours[n] - w).abs() > 1e-5).sum()) for n, w in theirs.items())
    assert far < 2e-2 * sum(w.numel() for w in theirs.values())


@pytest.mark.parametrize("name", [n for n in RUNS if n.split("-")[0] in TOLERANCES_16])
def test_sixteen_bits_train_as_fp32_does_but_for_rounding(result: Result, name: str) -> None:
    tolerance = TOLERANCES_16[name.split("-")[0]]
    assert losses(result(name)) == pytest.approx(result("plain")["losses"], abs=tolerance)
    norms = [row["gradient_norm"] for row in result(name)["rows"]]
    assert norms == pytest.approx(result("plain")["norms"], rel=0.01)


def test_fp16_scales_its_loss(result: Result) -> None:
    for name in ("fp16-0", "fp16-2"):
        assert {row["loss_scale"] for row in result(name)["rows"]} == {2.0**16}
    assert {row["loss_scale"] for row in result("bf16-2")["rows"]} == {1.0}


@pytest.mark.parametrize("name", [n for n in RUNS if n.startswith("sick")])
def test_a_step_that_is_not_finite_on_one_rank_is_left_out_on_all(
    result: Result, name: str
) -> None:
    found = result(name)
    skipped = {row["step"]: row for row in found["rows"] if row["skipped"]}
    assert list(skipped) == [SICK_STEP]
    assert found["unchanged"] == [SICK_STEP]
    assert skipped[SICK_STEP]["loss"] is None
    assert skipped[SICK_STEP]["gradient_norm"] is None
    healthy = [row for row in found["rows"] if not row["skipped"]]
    assert [row["step"] for row in healthy] == [1, 2, 4, 5]
    assert all(row["loss"] is not None for row in healthy)
    assert found["error"] is None


def test_after_several_in_a_row_the_stage_ends(result: Result) -> None:
    found = result("futile")
    assert [row["step"] for row in found["rows"]] == [1, 2, 3, 4]
    assert found["unchanged"] == [1, 3, 4]
    assert found["error"] == (
        "stage tiny: loss or gradient was not finite in 2 steps in a row, up to step 4, and the "
        "weights are as before them"
    )
    assert found["saved"] == []


def test_lora_changes_nothing_but_adapters(folder: Path) -> None:
    before, after = weights(folder, "lora", "before"), weights(folder, "lora")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    adapters = {name for name in before if ".lora_" in name}
    assert changed == adapters
    assert adapters


def test_the_validation_loss_is_that_of_the_weights_after_the_step(result: Result) -> None:
    for zero_stage in STAGES:
        rows = result(f"fp32-{zero_stage}")["rows"]
        assert [row["step"] for row in rows if row["validation_loss"] is not None] == [4, 5]
        theirs = [r["validation_loss"] for r in result("fp32-0")["rows"] if r["validation_loss"]]
        mine = [row["validation_loss"] for row in rows if row["validation_loss"]]
        assert mine == pytest.approx(theirs, abs=TOLERANCE)
        # It is taken over all steps' examples, which were learnt since.
        assert mine[-1] < sum(losses(result("fp32-0"))) / len(rows)


@pytest.mark.parametrize("name", [*(f"fp32-{z}" for z in STAGES), "checkpointed"])
def test_mfu_counts_what_the_model_needs(result: Result, name: str) -> None:
    # Two ranks of a known peak; torch counts the plain step. That of the first micro-batch stands
    # for all, whose images and lengths differ.
    needed = result("plain")["flops_a_token"]
    for row in result(name)["rows"]:
        padded = row["mfu"] * row["seconds"] * 2 * PEAK / needed
        assert 60 < padded < 130, "8 examples of 4 to 15 tokens"
    # All begin with the same micro-batch. A save counts in the seconds of the last row.
    *rows, _ = result(name)["rows"]
    for row, other in zip(rows, result("fp32-0")["rows"], strict=False):
        assert row["mfu"] * row["seconds"] == pytest.approx(other["mfu"] * other["seconds"])


def test_a_checkpoint_is_saved_at_the_end_of_the_stage(result: Result) -> None:
    assert result("one")["saved"] == [[5, 40]]
    assert [row["examples"] for row in result("one")["rows"]] == [8, 16, 24, 32, 40]
    assert {row["tokens"] for row in result("fp32-3")["rows"]} == {66}

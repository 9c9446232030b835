"""Checkpoints, what takes minutes: every stage into every stage and world, kills at any moment."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.training import checkpoint_files as files
from ml.training.checkpoints import latest
from tests.ml.test_checkpoints import (
    LOSS_TOLERANCE,
    STAGES,
    do,
    kill_while_writing,
    run,
    whole_tensors,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
KILLS = 20


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_autocast"])
def test_every_stage_into_every_stage_and_world(tmp_path: Path, precision: str) -> None:
    fields: dict[str, Any] = {"precision": precision, "more_steps": 3}
    writers = {
        (stage, world): run(
            tmp_path, f"from-{stage}-{world}", stage=stage, steps=2, save=["a"], **fields
        )
        for stage in STAGES
        for world in (2, 3)
    }
    plan = [
        {"world": world, "engines": [w for (_, n), w in writers.items() if n == world]}
        for world in (2, 3)
    ]
    for world in (1, 2, 3, 4):
        readers = [
            run(
                tmp_path,
                f"{Path(writer['result']).stem}-to-{stage}-{world}",
                stage=stage,
                load=f"{writer['folder']}/a",
                save=["again"],
                **fields,
            )
            for writer in writers.values()
            for stage in STAGES
        ]
        plan.append({"world": world, "engines": readers})
    results = do(plan, tmp_path, timeout_seconds=1500)
    compared = 0
    for name, result in results.items():
        if "-to-" not in name:
            continue
        writer = name.split("-to-")[0]
        before = whole_tensors(tmp_path / writer / "a")
        after = whole_tensors(tmp_path / name / "again")
        assert before.keys() == after.keys(), name
        assert [key for key in before if not torch.equal(before[key], after[key])] == [], name
        assert result["loaded_weights"] == results[writer]["weights"], name
        tolerance = LOSS_TOLERANCE if precision == "fp32" else 2e-2  # of bf16's 8 bits
        assert result["more"] == pytest.approx(results[writer]["more"], rel=tolerance), name
        compared += 1
    assert compared == len(writers) * len(STAGES) * 4


@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles its CPU Adam")
def test_states_offloaded_to_the_cpu(tmp_path: Path) -> None:
    """Written with DeepSpeed's Adam on the CPU, read by torch's without offload, and back."""
    pairs = [("off-2", "on-3"), ("off-3", "on-1"), ("on-2", "off-3"), ("on-1", "off-2")]
    fields: dict[str, Any] = {"precision": "bf16", "more_steps": 3}

    def offload(name: str) -> dict[str, Any]:
        return {"stage": int(name[-1]), "offload": name.startswith("off")}

    plan = [
        {
            "world": 2,
            "engines": [
                run(tmp_path, writer, **offload(writer), steps=2, save=["a"], **fields)
                for writer, _ in pairs
            ],
        },
        {
            "world": 3,
            "engines": [
                run(
                    tmp_path,
                    f"{writer}-to-{reader}",
                    **offload(reader),
                    load=str(tmp_path / writer / "a"),
                    save=["again"],
                    **fields,
                )
                for writer, reader in pairs
            ],
        },
    ]
    results = do(plan, tmp_path)
    for writer, reader in pairs:
        before = whole_tensors(tmp_path / writer / "a")
        after = whole_tensors(tmp_path / f"{writer}-to-{reader}" / "again")
        assert before.keys() == after.keys()
        assert [key for key in before if not torch.equal(before[key], after[key])] == []
        resumed, undisturbed = results[f"{writer}-to-{reader}"], results[writer]
        assert resumed["more"] == pytest.approx(undisturbed["more"], rel=2e-2)


def test_kills_at_any_moment_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    chance = random.Random(0)
    in_time = 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        # Its file has some 40 MB; 0 is a kill as soon as the folder is there.
        at = chance.choice([0, 1, chance.randrange(40_000_000)])
        in_time += kill_while_writing(folder, chance.randrange(2), at)
        newest = latest(folder / "run")
        assert newest is not None
        for name in json.loads((newest / "manifest.json").read_text())["checkpoint"]["indexes"]:
            assert (newest / name).exists()
        files.Reader(newest).verify(0, 1)
        shutil.rmtree(folder)
    assert in_time >= KILLS // 2  # else the test kills too late to show anything

"""Checkpoints: any rank's kill, any world size, any ZeRO stage, and files that are not what they
were. What needs ranks is done by tests/ml/checkpoint_ranks.py, two plans for all tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ml.training import checkpoint_files as files
from ml.training.checkpoint_fragments import share
from ml.training.checkpoints import Checkpointer, latest
from pipelines.errors import DataRefused, UsageError

Plan = list[dict[str, Any]]
STAGES = (0, 1, 2, 3)
LOSS_TOLERANCE = 1e-5
"""Between world sizes and stages: sums over ranks are taken in another order."""
ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(plan: Plan, folder: Path) -> subprocess.Popen[str]:
    """The program that does a plan, started."""
    path = folder / f"plan-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ml.checkpoint_ranks", str(path)],
        env={**os.environ, **ENVIRONMENT},
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def do(plan: Plan, folder: Path, timeout_seconds: float = 300) -> dict[str, dict[str, Any]]:
    """Does a plan; the results by their names."""
    process = start(plan, folder)
    said, _ = process.communicate(timeout=timeout_seconds)
    assert process.returncode == 0, said[-4000:]
    results = (Path(run["result"]) for group in plan for run in group["engines"])
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results}


def run(folder: Path, result: str, **fields: Any) -> dict[str, Any]:
    """One engine of a plan, with checkpoints in a folder of its own."""
    own = {"result": str(folder / f"{result}.json"), "folder": str(folder / result)}
    return {**own, **fields}


# What is trained and saved at world size 2, and goes on from there: fields of a Run.
WRITERS: dict[str, dict[str, Any]] = {
    **{f"fp32-{stage}": {"stage": stage} for stage in STAGES},
    **{f"bf16-{stage}": {"stage": stage, "precision": "bf16"} for stage in STAGES},
    "fp16-2": {"stage": 2, "precision": "fp16"},
    "fp16-0": {"stage": 0, "precision": "fp16"},
    "autocast-3": {"stage": 3, "precision": "bf16_autocast"},
    "dropout-1": {"stage": 1, "dropout": 0.5},
    "few-3": {"stage": 3, "train": ["norm"], "carried": ["frozen.weight"]},
    "few-2": {"stage": 2, "train": ["norm"], "carried": ["frozen.weight"]},
}
# What goes on at another world size: writer, the reader's ZeRO stage.
READERS: list[tuple[str, int]] = [
    *((f"fp32-{stage}", (stage + 1) % 4) for stage in STAGES),
    ("bf16-1", 3),
    ("bf16-3", 0),
    ("bf16-0", 2),
    ("few-2", 3),
    ("few-3", 1),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Checkpoints `a` after 2 steps and `b` after 4 of each writer, and its result."""
    folder = tmp_path_factory.mktemp("checkpoints")
    engines = [
        run(folder, name, **fields, steps=2, save=["a", "b"], more_steps=3)
        for name, fields in WRITERS.items()
    ]
    engines.append(run(folder, "no-room", stage=2, spoil="no_room", steps=1, save=["c"]))
    engines.append(run(folder, "no-json", stage=3, spoil="no_json", steps=1, save=["c"]))
    engines.append(run(folder, "kept", stage=1, steps=1, save=["z", "y", "x", "w"], keep=3))
    return folder, do([{"world": 2, "engines": engines}], folder)


@pytest.fixture(scope="module")
def read(written: tuple[Path, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What came of loading: `same-WRITER`, and `WRITER-at-WORLD`; refusals; see below."""
    folder, _ = written

    def again(result: str, writer: str, **fields: Any) -> dict[str, Any]:
        at = str(folder / writer / "b")
        given = {**WRITERS[writer], "load": at, "save": ["again"], "more_steps": 3, **fields}
        return run(folder, result, **given)

    broken = folder / "broken"
    shutil.copytree(folder / "fp32-2" / "b", broken)
    flip_byte(broken / "rank-00001.safetensors", -5)
    same = [again(f"same-{name}", name) for name in WRITERS]
    others = [
        again("other-width", "fp32-2", width=14),
        again("other-buffer", "fp32-2", seen=4),
        again("other-seed", "fp32-2", seed=1),
        again("other-parts", "fp32-2", train=["norm"]),
        again("other-file", "fp32-2", load=str(broken)),
    ]
    at = {"masters": str(folder / "fp32-2" / "b"), "precision": "bf16", "save": ["again"]}
    others += [run(folder, f"masters-{stage}", stage=stage, **at) for stage in STAGES]
    plan = [{"world": 2, "engines": same + others}]
    for world in (1, 3):
        engines = [again(f"{w}-at-{world}", w, stage=stage) for w, stage in READERS]
        plan.append({"world": world, "engines": engines})
    return do(plan, folder)


def flip_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def whole_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint put together, but the random states: not by the code tested."""
    parts: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for index in checkpoint.glob("rank-*.json"):
        tensors = load_file(index.with_suffix(".safetensors"))
        for name, (start, numel) in json.loads(index.read_text())["pieces"].items():
            assert len(tensors[name]) == numel
            parts.setdefault(name, []).append((start, tensors[name]))
    return {
        name: torch.cat([t for _, t in sorted(pieces, key=lambda piece: piece[0])])
        for name, pieces in parts.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_same_world_goes_on_bit_by_bit(
    written: tuple[Path, dict[str, Any]], read: dict[str, Any], writer: str
) -> None:
    undisturbed, resumed = written[1][writer], read[f"same-{writer}"]
    assert resumed["loaded_weights"] == undisturbed["weights"]
    assert resumed["more"] == undisturbed["more"]
    assert len(set(resumed["more"])) == 3
    assert resumed["buffers"] == undisturbed["buffers"]
    for what in ("counters", "rates", "scale"):
        assert resumed[what] == undisturbed[what]
    assert resumed["state"] == {"recipe": {"name": "tiny"}, "examples": 48}


@pytest.mark.slow
def test_the_fp16_scale_was_in_motion_when_saved(written: tuple[Path, dict[str, Any]]) -> None:
    result = written[1]["fp16-2"]
    assert result["counters"] == [4, 2, 48]  # two of the four steps were skipped
    assert result["scale"] == 2**16  # from 2**17; the first skip only uses up the hysteresis
    assert written[1]["fp16-0"]["scale"] == 2**18  # doubled after two steps in a row


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize(("writer", "stage"), READERS)
def test_other_worlds_and_stages_have_the_same_tensors(
    written: tuple[Path, dict[str, Any]],
    read: dict[str, Any],
    writer: str,
    stage: int,
    world: int,
) -> None:
    folder, results = written
    resumed = read[f"{writer}-at-{world}"]
    assert resumed["loaded_weights"] == results[writer]["weights"]
    before = whole_tensors(folder / writer / "b")
    after = whole_tensors(folder / f"{writer}-at-{world}" / "again")
    assert {"master", "exp_avg", "exp_avg_sq"} <= {name.split("/")[0] for name in before}
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    index = json.loads((folder / f"{writer}-at-{world}/again/rank-00000.json").read_text())
    writers = json.loads((folder / writer / "b/rank-00000.json").read_text())
    assert set(index["steps"].values()) == set(writers["steps"].values())


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("writer", [f"fp32-{stage}" for stage in STAGES])
def test_other_worlds_and_stages_have_the_same_losses(
    written: tuple[Path, dict[str, Any]], read: dict[str, Any], writer: str, world: int
) -> None:
    undisturbed = written[1][writer]["more"]
    assert read[f"{writer}-at-{world}"]["more"] == pytest.approx(undisturbed, rel=LOSS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_next_stage_has_the_masters_that_16_bits_would_round(
    written: tuple[Path, dict[str, Any]], read: dict[str, Any], stage: int
) -> None:
    folder, results = written
    before = whole_tensors(folder / "fp32-2" / "b")
    after = whole_tensors(folder / f"masters-{stage}" / "again")
    masters = [name for name in before if name.startswith("master/")]
    assert masters
    assert [name for name in masters if not torch.equal(before[name], after[name])] == []
    for name, weights in results["fp32-2"]["weights"].items():
        if f"master/{name}" in masters:
            rounded = torch.tensor(weights).bfloat16().tolist()
            assert read[f"masters-{stage}"]["loaded_weights"][name] == rounded


@pytest.mark.slow
def test_frozen_parameters_are_not_written_but_carried_ones(
    written: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = written
    names = whole_tensors(folder / "fp32-2" / "b").keys()
    assert "master/middle.weight" in names
    assert not [name for name in names if "frozen" in name]
    names = whole_tensors(folder / "few-3" / "b").keys()
    assert {name for name in names if name.startswith("master/")} == {
        "master/norm.weight",
        "master/norm.bias",
    }
    assert {name for name in names if name.startswith("kept/")} == {"kept/frozen.weight"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("result", "kind", "said"),
    [
        ("other-width", "UsageError", "of another shape: embedding.weight ([37, 13] there"),
        ("other-buffer", "UsageError", "buffers of another shape: seen"),
        ("other-seed", "UsageError", "frozen, but with other values: frozen.weight, frozen.bias"),
        ("other-parts", "UsageError", "trained there and frozen here: gate, embedding.weight"),
        ("other-file", "DataRefused", "rank-00001.safetensors is damaged: its CRC-32 differs"),
    ],
)
def test_load_names_what_differs(read: dict[str, Any], result: str, kind: str, said: str) -> None:
    refused = read[result]["refused"]
    assert refused.startswith(kind)
    assert said in refused


@pytest.mark.slow
def test_a_write_that_fails_on_one_rank_is_raised_on_all(
    written: tuple[Path, dict[str, Any]],
) -> None:
    folder, results = written
    failure = results["no-room"]["failure"]
    assert failure.startswith("CheckpointFailed: rank 1: checkpoint spoilt failed")
    assert "File too large" in failure
    assert [path.name for path in (folder / "no-room").iterdir()] == ["c"]


@pytest.mark.slow
def test_a_state_that_is_no_json_is_refused(written: tuple[Path, dict[str, Any]]) -> None:
    folder, results = written
    assert results["no-json"]["failure"].startswith("UsageError: rank 0: state")
    assert [path.name for path in (folder / "no-json").iterdir()] == ["c"]


@pytest.mark.slow
def test_the_newest_stay(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    assert {path.name for path in (folder / "kept").iterdir()} == {"y", "x", "w"}
    assert latest(folder / "kept") == folder / "kept" / "w"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("manifest.json", lambda p: flip_byte(p, 200), "manifest.json is damaged"),
        ("rank-00000.json", lambda p: flip_byte(p, 40), "rank-00000.json is damaged: its SHA-256"),
        ("rank-00001.json", Path.unlink, "rank-00001.json is damaged: it is missing"),
        ("rank-00000.safetensors", Path.unlink, "it is missing"),
        ("rank-00000.safetensors", lambda p: os.truncate(p, 1000), "has 1000 bytes instead of"),
        ("rank-00000.safetensors", lambda p: flip_byte(p, 12), "its CRC-32 differs"),
        ("manifest.json", Path.unlink, "is no whole checkpoint"),
    ],
)
def test_damage_is_found_and_named(
    written: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    file: str,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    checkpoint = tmp_path / "b"
    shutil.copytree(written[0] / "fp32-1" / "b", checkpoint)
    files.Reader(checkpoint).verify(0, 1)
    damage(checkpoint / file)
    with pytest.raises(DataRefused, match=said):
        files.Reader(checkpoint).verify(0, 1)


@pytest.mark.slow
def test_a_rank_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    killed = kill_while_writing(tmp_path, rank=1, written_bytes=1)
    assert killed
    folder = tmp_path / "run"
    assert latest(folder) == folder / "a"
    assert (folder / "b.partial").is_dir()
    files.Reader(folder / "a").verify(0, 1)
    Checkpointer(folder)
    assert [path.name for path in folder.iterdir()] == ["a"]


def kill_while_writing(tmp_path: Path, rank: int, written_bytes: int) -> bool:
    """Kills a rank when its file of checkpoint `b` has so many bytes; whether it was in time.

    0 bytes: as soon as the folder is there.
    """
    pids = tmp_path / "pids.json"
    engine = run(tmp_path, "run", stage=2, width=2500, steps=1, save=["a", "b"])
    process = start([{"world": 2, "engines": [engine], "pids": str(pids)}], tmp_path)
    partial = tmp_path / "run" / "b.partial"
    file = partial / files.tensors_name(rank)
    try:
        while process.poll() is None:
            written = file.stat().st_size if file.exists() else 0
            if written >= written_bytes and partial.exists():
                os.kill(json.loads(pids.read_text())[rank], signal.SIGKILL)
                break
            time.sleep(0.001)
        process.communicate(timeout=60)
    finally:
        process.kill()
    return not (tmp_path / "run" / "b").exists()


def test_the_file_is_what_safetensors_reads(tmp_path: Path) -> None:
    tensors = {
        "half": torch.arange(3, dtype=torch.bfloat16),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "long": torch.tensor([-(2**62)]),
        "float": torch.rand(7)[2:5],
        "none": torch.empty(0),
    }
    copy = files.HostCopy()
    copy.take({"x": torch.rand(100)})
    copy.take(tensors)
    size, _ = copy.write(tmp_path / "t.safetensors")
    assert (tmp_path / "t.safetensors").stat().st_size == size
    found = load_file(tmp_path / "t.safetensors")
    assert found.keys() == tensors.keys()
    for name, t in tensors.items():
        assert found[name].dtype == t.dtype
        assert torch.equal(found[name], t)


def test_what_is_taken_does_not_change_with_the_weights(tmp_path: Path) -> None:
    weights = torch.zeros(4)
    copy = files.HostCopy()
    copy.take({"weights": weights})
    weights += 1
    copy.write(tmp_path / "t.safetensors")
    assert load_file(tmp_path / "t.safetensors")["weights"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("numel", [0, 1, 2, 7, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 5])
def test_shares_are_all_of_it_once(numel: int, world: int) -> None:
    shares = [share(numel, rank, world) for rank in range(world)]
    assert [i for start, count in shares for i in range(start, start + count)] == list(range(numel))


def test_a_folder_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    assert latest(tmp_path / "absent") is None
    (tmp_path / "other").mkdir()
    assert latest(tmp_path) is None


def test_keep_is_one_or_more(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keep must be 1 or more, not 0"):
        Checkpointer(tmp_path, keep=0)

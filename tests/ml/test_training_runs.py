"""A run's folder: lines that a kill cut off, steps that were taken again, names; and progress."""

from __future__ import annotations

import errno
import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml.feed.order import ORDER
from ml.recipe import built_in, load_recipe, recipe_of
from ml.training.checkpoints import CheckpointFailed
from ml.training.metrics import Reporter, StepRow, peak_of
from ml.training.runs import Ended, RunFolder, Source, TrainingRun, folder_name, runs_in
from ml.training.worker import check_goes_on, saved_or_said
from pipelines.errors import DataRefused, UsageError


def row(step: int, **changes: Any) -> dict[str, Any]:
    return {"stage": "align", "step": step, "attempt": 0, "loss": 1.0 / step, **changes}


def a_run() -> TrainingRun:
    recipe = load_recipe("demo-image")
    table = Source("gold.vqa_examples", "/lake/gold/vqa_examples", 3)
    return TrainingRun("r-1", recipe, {"vqa": table}, 2, {"torch": "2"}, attempt=1)


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r-1")
    folder.write(a_run())
    assert folder.read() == a_run()
    assert folder.read().table_versions == {"gold.vqa_examples": 3}
    assert list(runs_in(tmp_path)) == ["r-1"]


def test_a_new_start_forgets_how_the_last_one_ended(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_end() is None
    folder.write_end(Ended("stopped", "align-000003"))
    assert folder.read_end() == Ended("stopped", "align-000003")
    folder.write(a_run())
    assert folder.read_end() is None


def test_a_folder_without_a_run_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no training run"):
        RunFolder(tmp_path).read()
    (tmp_path / "run.json").write_text('{"run_id": ')
    with pytest.raises(DataRefused, match="is damaged"):
        RunFolder(tmp_path).read()


def test_of_a_step_the_last_line_holds(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for line in (row(1), row(2), row(2, attempt=1, loss=0.25), row(3)):
        folder.append_metrics(line)
    rows, _ = folder.metrics()
    assert [(r["step"], r["attempt"], r["loss"]) for r in rows] == [
        (1, 0, 1.0),
        (2, 1, 0.25),
        (3, 0, pytest.approx(1 / 3)),
    ]


def test_a_line_is_read_when_it_is_whole_and_only_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.metrics() == ([], 0)
    folder.append_metrics(row(1))
    with (tmp_path / "metrics.jsonl").open("a") as f:
        f.write(json.dumps(row(2))[:20])
    rows, end = folder.metrics()
    assert [r["step"] for r in rows] == [1]
    assert folder.metrics(end) == ([], end)
    folder.mend_metrics()
    folder.append_metrics(row(2))
    rows, after = folder.metrics(end)
    assert [r["step"] for r in rows] == [2]
    assert after == (tmp_path / "metrics.jsonl").stat().st_size


@pytest.mark.parametrize("left", ['{"stage": "al', "", None])
def test_what_a_kill_left_of_the_only_line_goes(tmp_path: Path, left: str | None) -> None:
    folder = RunFolder(tmp_path)
    if left is not None:
        (tmp_path / "metrics.jsonl").write_text(left)
    folder.mend_metrics()
    folder.append_metrics(row(1))
    assert folder.metrics()[0] == [row(1)]


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b", "-x", "a\n"])
def test_a_run_id_that_is_no_name_of_a_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--run-id"):
        folder_name(name)


@pytest.mark.parametrize("name", ["../align", "a/b", "", ".x"])
def test_so_is_a_stage_of_such_a_name(name: str) -> None:
    toml = built_in()["demo-image"].replace('name = "align"', f'name = "{name}"')
    with pytest.raises(UsageError, match="stages"):
        recipe_of(toml, "r.toml")


def test_every_recipe_that_ships_is_one() -> None:
    for name in built_in():
        assert load_recipe(name).name == name


def test_metrics_wait_for_room_on_the_disk(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics(row(1))
    size = (tmp_path / "metrics.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        folder.append_metrics(row(2))  # ten bytes of it are written
        folder.append_metrics(row(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder.metrics()[0] == [row(1)]
    folder.append_metrics(row(4))
    assert folder.metrics()[0] == [row(n) for n in (1, 2, 3, 4)]


class FullBoard:
    """A TensorBoard whose disk is full: its thread's error comes with the next call."""

    def add_scalar(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    close = add_scalar


@pytest.mark.parametrize("steps", [2, 0])
def test_training_goes_on_without_a_tensorboard_whose_disk_is_full(
    tmp_path: Path, steps: int
) -> None:
    said: list[str] = []
    reporter = Reporter(RunFolder(tmp_path), show=said.append)
    reporter._board = FullBoard()
    numbers = dict.fromkeys(("step", "attempt", "examples", "tokens", "peak_bytes"), 1)
    shares = dict.fromkeys(("loss_scale", "seconds", "wait_seconds", "checkpoint_seconds"), 1.0)
    unknown = dict.fromkeys(("validation_loss", "learning_rate", "gradient_norm", "mfu"))
    fields: dict[str, Any] = {**numbers, **shares, **unknown}
    row = StepRow(stage="s", loss=1.0, skipped=False, **fields)
    for step in range(steps):
        reporter.step(replace(row, step=step + 1), steps=9)
    reporter.close()
    assert [line for line in said if "TensorBoard" in line] == [
        "TensorBoard gets no more of this run: [Errno 28] No space left on device"
    ]
    assert len(RunFolder(tmp_path).metrics()[0]) == steps


@pytest.mark.parametrize(
    ("device", "teraflops"),
    [
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("Tesla T4", 65),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA RTX A1000 Laptop GPU", None),
        ("NVIDIA T400 4GB", None),
    ],
)
def test_the_peak_of_a_device_is_known_by_its_whole_name(
    device: str, teraflops: float | None
) -> None:
    assert peak_of(device) == (None if teraflops is None else teraflops * 1e12)


def test_a_checkpoint_that_fails_ends_what_would_end_without_it() -> None:
    def fails() -> None:
        raise CheckpointFailed("no room")

    said: list[str] = []
    saved_or_said(fails, fails, said.append, ends=False)
    assert said == ["no room; training goes on"] * 2
    said.clear()
    with pytest.raises(CheckpointFailed, match="no room"):
        saved_or_said(fails, fails, said.append, ends=True)
    assert said == ["no room; it is saved once more"]


def test_a_run_does_not_go_on_with_other_examples() -> None:
    path, hashes = Path("/r-1/checkpoints/align-000003"), {"gold.vqa_examples": "abc"}
    state = {
        "tables": hashes,
        "feed_order": ORDER,
        "ended": False,
        "versions": {"roundtrip": "0.1.0+abc"},
    }
    check_goes_on(path, state, hashes)
    with pytest.raises(DataRefused, match=r"align-000003 .* other rows than gold.vqa_examples"):
        check_goes_on(path, state, {"gold.vqa_examples": "abd"})
    with pytest.raises(DataRefused, match=r"align-000003 .* version 0.1.0\+abc .* another order"):
        check_goes_on(path, {**state, "feed_order": ORDER - 1}, hashes)
    # The next stage begins its order anew.
    check_goes_on(path, {**state, "feed_order": ORDER - 1, "ended": True}, hashes)

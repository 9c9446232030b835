"""A checkpoint that is saved under the name of another."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from ml.training import checkpoint_files as files
from ml.training.checkpoints import Checkpointer, latest
from ml.training.runs import RunFolder
from ml.training.worker import Worker


def made(checkpoint: Path, number: int | None) -> Path:
    """The index of a checkpoint of no tensors, and its manifest where it has a number."""
    checkpoint.mkdir()
    files.write_json(checkpoint / files.index_name(0), {})
    if number is not None:
        files.write_manifest(checkpoint, {"number": number}, 1)
    return checkpoint


@pytest.mark.parametrize(("killed_at", "left"), [("rename", 1), ("rmtree", 2)])
def test_a_kill_while_one_is_replaced_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str, left: int
) -> None:
    checkpointer = Checkpointer(tmp_path)
    made(tmp_path / "a", 1)
    partial = made(tmp_path / "a.partial", None)

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as at:
        if killed_at == "rmtree":
            at.setattr(shutil, "rmtree", killed)
        else:
            rename = Path.rename
            at.setattr(Path, "rename", lambda p, to: (killed if p == partial else rename)(p, to))
        with pytest.raises(SystemExit):
            checkpointer._finish(partial, "a", {}, 1)
    Checkpointer(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert files.read_manifest(tmp_path / "a")["number"] == left


def test_a_start_goes_on_from_the_one_that_was_being_replaced(tmp_path: Path) -> None:
    worker: Any = Worker.__new__(Worker)
    worker.rank, worker.recipe = 0, Namespace(stages=())
    worker.folder = RunFolder(tmp_path)
    worker.folder.checkpoints.mkdir()
    made(worker.folder.checkpoints / "a.replaced.partial", 1)
    found: list[Path | None] = []
    worker.latest = lambda: found.append(latest(worker.folder.checkpoints))
    worker.end = lambda *_: None
    worker.train()
    assert found == [worker.folder.checkpoints / "a"]

"""Training that cannot fit is refused before a rank or a table is touched, unless it is forced.

The job's body runs on a run that is to be resumed, as it needs no tables then; no Spark is started.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.train_vlm import arguments, body
from ml.memory.footprint import GPU_SHARE
from ml.memory.plan import plan_of
from ml.recipe import recipe_of
from ml.training.runs import RunFolder, Source, TrainingRun
from pipelines.errors import UsageError
from tests.ml.tiny_models import tiny_llm

RECIPE = """
name = "tiny"
[model]
encoder = { kind = "cnn", image_px = 32 }
llm = { path = "LLM" }
fusion = { kind = "mlp_projector" }
[[stages]]
name = "align"
data = "captions"
template = "plain"
steps = 4
global_batch = 8
micro_batch = 4
max_tokens = 16
zero_stage = 0
train = { encoder = "full", fusion = "full", llm = "full" }
"""


class Started(Exception):
    """The job has gone past its check."""


class Tables(dict[str, int]):
    """What a run has read; the first to be recorded is the first thing after the check."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise Started


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    tiny_llm(tmp_path, "llama")
    recipe = recipe_of(RECIPE.replace("LLM", str(tmp_path / "llama")), "test")
    tables = {"captions": Source("gold.vlm_examples", str(tmp_path / "table"), 3)}
    training = TrainingRun("one", recipe, tables, processes=2, versions={})
    RunFolder(tmp_path / "runs" / "one").write(training)
    return tmp_path / "runs"


def resume(runs: Path, *argv: str) -> None:
    """The job's body, up to where it starts to train: Started. Raises UsageError before."""
    fixed = ["--lake", str(runs.parent), "--runs", str(runs), "--resume", "one"]
    args = arguments().parse_args([*fixed, *argv])

    @contextmanager
    def step(name: str) -> Iterator[None]:
        yield

    lake = SimpleNamespace(check=lambda *tables: None, root=str(runs.parent))
    run: Any = SimpleNamespace(job="train_vlm", args=args, lake=lake, step=step, tables_in=Tables())
    body(run)


def test_what_does_not_fit_is_refused_with_the_nearest_set_up(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two GPUs that have room for all but a fiftieth of what stage 0 takes."""
    monkeypatch.setattr("ml.memory.plan.device_memory", lambda *args, **kwargs: 10**11)
    recipe = RunFolder(runs / "one").read().recipe
    (stage,) = plan_of(recipe, processes=2, device_bytes=1).stages
    enough = stage.footprint(stage.given).peak / GPU_SHARE / 1e6
    with pytest.raises(Started):
        resume(runs, "--use-gpu", "--device-memory", f"{1.01 * enough:.6f}MB")
    with pytest.raises(UsageError) as refused:
        resume(runs, "--use-gpu", "--device-memory", f"{0.98 * enough:.6f}MB")
    said = str(refused.value)
    assert re.fullmatch(
        r"it does not fit: align needs 0\.\d\d GB of 0\.\d\d GB with ZeRO-0, micro-batch 4; "
        r"ZeRO-1, micro-batch 4 fits with 0\.\d\d GB; --force starts it all the same",
        said,
    ), said


def test_the_host_of_gpus_is_compared_where_it_is_this_machine(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.memory.plan.device_memory", lambda *args, **kwargs: 10**8)
    on_gpus = ("--use-gpu", "--device-memory", "80GB")
    with pytest.raises(UsageError, match=r"and of the host 1\.\d\d GB of 0\.10 GB, with ZeRO-0"):
        resume(runs, *on_gpus)
    with pytest.raises(Started):
        resume(runs, *on_gpus, "--launch", "cluster")


def test_where_nothing_fits_it_says_so(runs: Path) -> None:
    """Without a GPU: the process alone takes more."""
    with pytest.raises(UsageError, match="no set-up fits on 2 of them"):
        resume(runs, "--device-memory", "100MB")
    assert not (runs / "one" / "lock").exists()


def test_force_starts_it_all_the_same(runs: Path) -> None:
    with pytest.raises(Started):
        resume(runs, "--device-memory", "100MB", "--force")


def test_on_a_cluster_memory_is_known_only_if_it_is_said(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Started):
        resume(runs, "--launch", "cluster")
    assert "--device-memory says what each rank has" in capsys.readouterr().err
    with pytest.raises(UsageError, match="it does not fit"):
        resume(runs, "--launch", "cluster", "--device-memory", "100MB")


def test_without_a_size_it_is_the_memory_of_this_machine(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool]] = []

    def memory(processes: int, *, cpu: bool) -> int:
        asked.append((processes, cpu))
        return 10**8

    monkeypatch.setattr("ml.memory.plan.device_memory", memory)
    with pytest.raises(UsageError, match="it does not fit"):
        resume(runs)
    assert asked == [(2, True)]  # ranks share it, GPU or none

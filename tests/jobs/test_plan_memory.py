"""The planner's job: its arguments, its table, its JSON and its chart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.plan_memory import main
from tests.ml.tiny_models import tiny_llm

ROOT = Path(__file__).resolve().parents[2]

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
train = { fusion = "full" }
[[stages]]
name = "instruct"
data = "vqa"
template = "short"
steps = 4
global_batch = 8
micro_batch = 4
max_tokens = 16
zero_stage = 3
train = { fusion = "full", llm = "lora" }
"""


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON line, and what stands before it."""
    code = main(argv)
    *before, line = capsys.readouterr().out.splitlines()
    return code, json.loads(line), "\n".join(before)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    tiny_llm(tmp_path, "llama", num_hidden_layers=2)
    made = tmp_path / "tiny.toml"
    made.write_text(RECIPE.replace("LLM", str(tmp_path / "llama")), encoding="utf-8")
    return made


def test_a_size_has_a_table_a_line_of_json_and_a_chart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chart = tmp_path / "plan.png"
    code, line, text = planned(
        capsys, "--params", "2e7", "--gpus", "4", "--gpu-memory", "2GB", "--host-memory", "3GB",
        "--chart", str(chart),
    )  # fmt: skip
    assert code == 0
    assert (line["job"], line["outcome"], line["fits"]) == ("plan_memory", "done", True)
    (stage,) = line["stages"]
    assert stage["parameters"] == 20_000_000
    assert stage["devices"] == {
        "ranks": 4,
        "bytes": 2 * 10**9,
        "cpu": False,
        "host_bytes": 3 * 10**9,
        "room": 18 * 10**8,
    }
    assert stage["held_by_zero_stage_and_ranks"]["3"]["4"] == 80_000_000
    assert "Adam holds 16 bytes a trained parameter" in text
    assert "by GPUs" in text
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_a_recipe_has_a_plan_of_each_stage(recipe: Path, tmp_path: Path) -> None:
    """As a process: with --json there is one line, whatever DeepSpeed has to say."""
    chart = tmp_path / "plan.png"
    command = [sys.executable, "-m", "jobs.plan_memory", "--recipe", str(recipe), "--json"]
    command += ["--gpus", "2", "--gpu-memory", "4GiB", "--chart", str(chart)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert [stage["name"] for stage in line["stages"]] == ["align", "instruct"]
    align, instruct = line["stages"]
    assert align["given"]["setup"]["zero_stage"] == 2
    assert instruct["given"]["setup"]["zero_stage"] == 3
    llm = next(part for part in instruct["parts"] if part["name"] == "llm")
    assert 0 < llm["adapters"] == llm["trained"] < llm["frozen"]
    assert instruct["given"]["disk"] == 12 * instruct["trained_parameters"]
    assert instruct["cheapest"]["fits"]
    assert chart.stat().st_size > 10_000


def test_without_a_size_of_memory_it_is_of_this_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, line, text = planned(capsys, "--params", "1e6", "--gpus", "3")
    assert code == 0
    devices = line["stages"][0]["devices"]
    assert devices["cpu"]
    assert devices["bytes"] == devices["room"] > 0
    assert "3 processes of " in text


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        ([], "one of the arguments --recipe --params is required"),
        (["--recipe", "a.toml", "--params", "1e9"], "not allowed with argument"),
        (["--params", "many"], "is no number of parameters"),
        (["--params", "1e5"], "from 1e6 to 1e13"),
        (["--params", "1e9", "--gpus", "0"], "is no number of ranks"),
        (["--params", "1e9", "--gpu-memory", "40"], "write 40GB"),
        (["--recipe", "bloomz-7b1-biomed"], "did you mean bloomz-7b1-biomedclip?"),
    ],
)
def test_wrong_arguments_are_refused(
    argv: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line, _ = planned(capsys, *argv)
    assert (code, line["outcome"]) == (2, "usage")
    assert error in line["error"]


def test_a_model_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "tiny.toml"
    made.write_text(RECIPE.replace("LLM", str(tmp_path / "none")), encoding="utf-8")
    code, line, _ = planned(capsys, "--recipe", str(made))
    assert code == 2
    assert str(tmp_path / "none") in line["error"]


def test_a_chart_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    chart = tmp_path / "file" / "plan.png"
    code, line, _ = planned(capsys, "--params", "1e6", "--chart", str(chart))
    assert code == 2
    assert f"--chart {chart} cannot be written" in line["error"]

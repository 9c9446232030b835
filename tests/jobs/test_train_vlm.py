"""Training by the job, in real ranks: what it leaves, how it stops, goes on, and is refused."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from transformers import AutoModelForCausalLM

from jobs.figure_stages import write_token_ids
from jobs.lake import Lake
from jobs.run import Run
from jobs.train_vlm import main
from ml.models.artefact import tensors_in
from ml.training.runs import RunFolder
from schemas import METRICS, ML_RUNS
from tests.job_runs import Job, job_on
from tests.ml.training_lake import ALIGN, INSTRUCT, tiny_recipe, training_lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 6  # of each stage
DONE = "whole"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    return tiny_recipe(folder, "tiny", ALIGN, INSTRUCT, steps=STEPS, validate_every=STEPS)


@pytest.fixture(scope="module")
def examples(spark: SparkSession, folder: Path) -> Lake:
    return training_lake(spark, folder)


@pytest.fixture(scope="module")
def trained(examples: Lake, recipe: Path) -> RunFolder:
    """A run that nobody disturbed, on two ranks."""
    what = ["--recipe", str(recipe), "--num-processes", "2", "--run-id", DONE, "--tensorboard"]
    assert main([*what, "--lake", examples.root]) == 0
    return RunFolder(Path(examples.root) / ".runs" / DONE)


@pytest.fixture
def train(examples: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(examples, main, capsys)


def curve(lake: Lake, run_id: str) -> dict[tuple[str, int], dict[str, Any]]:
    rows = lake.read(METRICS).where(F.col("run_id") == run_id).collect()
    kept = ("loss", "validation_loss", "learning_rate", "gradient_norm", "examples", "tokens")
    found = {(r.stage, r.step): {k: r[k] for k in kept if r[k] is not None} for r in rows}
    assert len(found) == len(rows)
    return found


def events(lake: Lake, run_id: str) -> list[tuple[str, str]]:
    rows = lake.read(ML_RUNS).where(F.col("run_id") == run_id).orderBy("at").collect()
    return [(row.event, row.outcome) for row in rows]


def test_each_step_is_in_the_metrics(trained: RunFolder, examples: Lake) -> None:
    steps = curve(examples, DONE)
    assert sorted(steps) == [(s, n) for s in ("align", "instruct") for n in range(1, STEPS + 1)]
    assert [steps["instruct", n]["examples"] for n in range(1, STEPS + 1)] == [
        8,
        16,
        24,
        32,
        40,
        48,
    ]
    validated = {key for key, row in steps.items() if "validation_loss" in row}
    assert validated == {("align", STEPS), ("instruct", STEPS)}
    assert any(trained.tensorboard.iterdir())


def test_the_run_can_be_traced(trained: RunFolder, examples: Lake) -> None:
    assert events(examples, DONE) == [("start", "running"), ("end", "done")]
    row = examples.read(ML_RUNS).where(f"run_id = '{DONE}' AND event = 'end'").collect()[0]
    assert row.tables_in == {"gold.vlm_examples": 1, "gold.vqa_examples": 1}
    assert (row.processes, row.zero_stages, row.steps) == (2, [2, 2], 2 * STEPS)
    facts = json.loads((trained.model / "facts.json").read_text())
    assert facts["run_id"] == DONE
    assert facts["tables_in"] == row.tables_in
    assert row.parameters > row.trained_parameters > 0


def test_lora_changes_nothing_but_what_has_an_adapter(trained: RunFolder, folder: Path) -> None:
    before = AutoModelForCausalLM.from_pretrained(folder / "bloom").state_dict()
    after = dict(tensors_in(trained.model))
    changed = {
        name
        for name, value in before.items()
        if f"llm.{name}" in after and not value.equal(after[f"llm.{name}"])
    }
    assert changed
    assert all(name.endswith(".weight") and before[name].dim() == 2 for name in changed)
    assert not any("embedding" in name or "norm" in name for name in changed)


def test_stopped_and_resumed_on_another_world_it_is_as_if_never_stopped(
    trained: RunFolder, train: Job, examples: Lake, recipe: Path, folder: Path
) -> None:
    """With token ids of the lake, too, which the other run did without."""
    of_lake = Run("test", Namespace(lake=examples.root, run_id="test"), examples.spark)
    write_token_ids(of_lake, folder / "bloom", "question_answer")
    stopped = RunFolder(Path(examples.root) / ".runs" / "stopped")
    told = threading.Event()

    def stop() -> None:
        while not stopped.metrics()[0] and not told.wait(0.005):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        code, line, _ = train(
            "--recipe", str(recipe), "--num-processes", "2", "--run-id", "stopped"
        )
    finally:
        told.set()
        stopper.join()
    assert (code, line["error"]) == (1, "interrupted")
    rows, _ = stopped.metrics()
    assert 0 < len(rows) < 2 * STEPS
    code, line, _ = train("--resume", "stopped", "--num-processes", "1")
    assert code == 0, line
    assert line["tables_in"]["gold.token_ids"] == 1
    expected, found = curve(examples, DONE), curve(examples, "stopped")
    assert found.keys() == expected.keys()
    for step, row in expected.items():
        assert found[step] == pytest.approx(row, rel=1e-4), step
    assert events(examples, "stopped") == [
        ("start", "running"),
        ("end", "stopped"),
        ("resume", "running"),
        ("end", "done"),
    ]


def test_steps_that_are_not_finite_end_the_run(train: Job, folder: Path) -> None:
    sick = tiny_recipe(
        folder, "sick", INSTRUCT, learning_rate=1e30, most_skipped=2, checkpoint_every=1
    )
    code, line, _ = train("--recipe", str(sick), "--run-id", "sick")
    assert code == 1
    assert "not finite in 2 steps in a row" in line["error"]
    assert "the last checkpoint is" in line["error"]


def test_a_recipe_for_another_run_is_refused(
    trained: RunFolder, train: Job, recipe: Path, folder: Path
) -> None:
    code, line, _ = train("--resume", DONE)
    assert (code, line["error"]) == (2, f"run {DONE} is done: its model is at {trained.model}")
    code, line, _ = train("--recipe", str(recipe), "--run-id", DONE)
    assert code == 2
    assert f"go on with it by --resume {DONE}" in line["error"]
    code, line, _ = train("--resume", "nobody")
    assert code == 2
    assert "no run nobody in" in line["error"]


def test_an_end_that_the_driver_did_not_record_is_recorded(
    trained: RunFolder, train: Job, examples: Lake
) -> None:
    before = curve(examples, DONE)
    for table, what in ((ML_RUNS, "event = 'end'"), (METRICS, "stage = 'instruct'")):
        path = examples.path(table)
        examples.spark.sql(f"DELETE FROM delta.`{path}` WHERE run_id = '{DONE}' AND {what}")
    assert len(curve(examples, DONE)) == STEPS
    code, line, _ = train("--resume", DONE)
    assert code == 0, line
    assert line["steps"] == 2 * STEPS
    assert curve(examples, DONE) == before
    assert events(examples, DONE) == [("start", "running"), ("end", "done")]
    assert train("--resume", DONE)[0] == 2


def test_a_run_goes_on_with_its_own_recipe_alone(
    trained: RunFolder, train: Job, folder: Path
) -> None:
    end = trained.path / "ended.json"
    kept = end.read_bytes()
    end.unlink()  # as a kill would have left it
    try:
        other = tiny_recipe(folder, "other", ALIGN, INSTRUCT, steps=STEPS, validate_every=2)
        code, line, _ = train("--resume", DONE, "--recipe", str(other), "--seed", "6")
    finally:
        end.write_bytes(kept)
    assert code == 2
    assert "stages.0.validate_every, stages.1.validate_every" in line["error"]
    assert "seed" in line["error"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--recipe F says what to train, or --resume"),
        (["--recipe", "demo-imag"], "did you mean demo-image"),
        (["--recipe", "RECIPE", "--num-processes", "0"], "--num-processes 0: must be 1 or more"),
        (["--recipe", "RECIPE", "--fold", "1"], "the recipe splits by split, not by fold"),
        (["--recipe", "RECIPE", "--run-id", "a/b"], "becomes the name of a folder"),
        (["--recipe", "RECIPE", "--device-memory", "1MB"], "it does not fit: align needs"),
        (["--recipe", "RECIPE", "--use-gpu"], "GPU"),
    ],
)
def test_a_wrong_argument_starts_no_rank(
    train: Job, recipe: Path, examples: Lake, argv: list[str], said: str
) -> None:
    begun = time.monotonic()
    code, line, _ = train(*[str(recipe) if x == "RECIPE" else x for x in argv])
    assert code == 2, line
    assert said in line["error"]
    assert time.monotonic() - begun < 60


def test_ranks_in_tasks_of_spark_train_as_well(train: Job, examples: Lake, folder: Path) -> None:
    short = tiny_recipe(folder, "short", INSTRUCT, steps=2)
    code, line, _ = train("--recipe", str(short), "--launch", "cluster", "--run-id", "tasks")
    assert code == 0, line
    assert line["training_run"] == "tasks"
    assert len(curve(examples, "tasks")) == 2

"""The model of a run as a folder for others, with what the lake knows in its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from pyspark.sql import SparkSession

from jobs import ask_vlm
from jobs.export_vlm import main
from jobs.lake import Lake
from schemas import (
    FIGURE_IMAGES,
    FIGURES,
    LEADERBOARD,
    METRICS,
    ML_RUNS,
    SCORES,
    TOKEN_IDS,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
)
from tests.job_runs import Job, job_on
from tests.ml.made_tables import square
from tests.ml.seeing import QUESTIONS, SQUARES, answers, save_seeing_model, seeing_recipe, shade
from tests.ml.seeing_lake import AT, metric_rows, run_row, vlm_rows, vqa_rows, write

pytestmark = pytest.mark.slow

RUN = "run-that-sees"
CHECKPOINT = "instruct-000060"
TRAINING_SQUARES = [n for n in range(SQUARES) if n // 2 % 10 < 6]


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake in which each table that a card is filled from has something to say."""
    folder = tmp_path_factory.mktemp("export")
    lake = Lake(spark, str(folder / "lake"))
    lake.check_root()
    write(lake, VQA_EXAMPLES, vqa_rows())
    write(lake, VLM_EXAMPLES, vlm_rows())
    recipe = seeing_recipe(folder / "parts")
    save_seeing_model(folder / "run" / "model", recipe)
    row = run_row(lake, RUN, recipe, folder / "run")
    row["tables_in"][TOKEN_IDS.name] = 1  # the lake had ids that saved tokenising
    gone = dict.fromkeys(row["tables_in"], 77)
    write(
        lake,
        ML_RUNS,
        [
            row,
            run_row(lake, "run-of-old", recipe, folder / "run", tables_in=gone),
            run_row(lake, "run-unfinished", recipe, folder / "nowhere", outcome="failed"),
        ],
    )
    write(lake, METRICS, metric_rows(RUN, {"align": [6.5, 5.25], "instruct": [4.0, 3.125, None]}))
    scores = [("image", "score", 0.75), ("no_image", "score", 0.5), ("image", "strict", 0.875)]
    scores += [("image minus no_image", "score", 0.25)]
    write(
        lake,
        SCORES,
        [
            {"run_id": RUN, "checkpoint": checkpoint, "table_name": VQA_EXAMPLES.name,
             "table_version": 1, "split_by": "split", "split": split, "control": control,
             "metric": metric, "group": "all", "value": "all", "n": 24, "score": score - less,
             "low": score - 0.125, "high": score + 0.125, "at": AT}
            for checkpoint, split, less in (
                (CHECKPOINT, "test", 0.0), ("instruct-000010", "test", 0.0625),
                (CHECKPOINT, "test[:5]", 0.0625),
            )
            for control, metric, score in scores
        ],
    )  # fmt: skip
    board = {"prototype": "abc", "table_version": 1, "split_by": "split", "splits": ["test"],
             "seeds": 1, "questions": 24, "score": 0.75, "score_low": 0.5, "at": AT}  # fmt: skip
    write(
        lake,
        LEADERBOARD,
        [
            board | {"place": 2, "runs": [RUN, "other"], "score_high": 1.0},
            board | {"place": 1, "runs": ["best"], "prototype": "def"},
            board | {"place": 1, "runs": ["none"], "prototype": "ghi", "splits": ["validation"]},
        ],
    )
    figures = [
        {"figure_id": 100 + n, "revision": 1, "source": "made", "record": str(n), "format": "f",
         "licence": "CC BY" if n % 4 else None, "delivery_id": "0", "delivered_at": AT}
        for n in range(SQUARES)
    ]  # fmt: skip
    parts = [
        {"figure_id": 100 + n, "part": 0, "example_id": n, "revision": 1, "kind": "whole",
         "image": b"", "reasons": []}
        for n in range(SQUARES)
    ]  # fmt: skip
    write(lake, FIGURES, figures)
    write(lake, FIGURE_IMAGES, parts)
    return lake


@pytest.fixture
def export(trained: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(trained, main, capsys)


def test_a_run_is_exported_with_what_the_tables_say(
    trained: Lake, export: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export"
    code, line, _ = export("--run", RUN, "--out", str(out), "--licence", "cc-by-4.0")
    assert code == 0, line
    assert line["folder"] == str(out)
    assert line["training_run"] == RUN
    assert line["tables_in"].keys() == {
        t.name for t in (ML_RUNS, METRICS, SCORES, LEADERBOARD, VQA_EXAMPLES, VLM_EXAMPLES,
                         FIGURES, FIGURE_IMAGES)
    }  # fmt: skip
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "cc-by-4.0"
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"score": 0.75, "strict": 0.875}
    images, unstated = len(TRAINING_SQUARES), len([n for n in TRAINING_SQUARES if n % 4 == 0])
    for told in (
        f"Training run {RUN}, checkpoint {CHECKPOINT}, seed 0",
        f"| gold.vlm_examples | 1 | {images} |",
        f"| gold.vqa_examples | 1 | {2 * images} |",
        "| align | captions | fusion full | bf16 | 2 | 32 | 200 | 5.2500 |  |",
        "| instruct | vqa | fusion full | bf16 | 3 | 48 | 300 | 3.1250 |  |",
        "2 processes, ZeRO 2, 2, 12 s in training steps; outcome: done.",
        "| image | 75.0 [62.5, 87.5] | 87.5 [75.0, 100.0] |",
        "| no_image | 50.0 [37.5, 62.5] |  |",
        "| image minus no_image | 25.0 [12.5, 37.5] |  |",
        "place 2 of 2, score 75.0 [50.0, 100.0], 2 runs",
        f"| CC BY | {images - unstated} |",
        f"| not stated | {unstated} |",
    ):
        assert told in card.text, told
    assert "not told apart" not in card.text
    assert TOKEN_IDS.name not in card.text
    assert "test[:5]" not in card.text

    for number in (6, 7):  # and the folder answers as the model did
        image = tmp_path / f"{number}.jpg"
        image.write_bytes(square(shade(number)))
        assert ask_vlm.main([str(image), QUESTIONS[0], "--model", str(out)]) == 0
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert said["answer"] == answers(number)[0]


def test_what_tables_do_not_know_the_card_says(
    trained: Lake, export: Job, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line, err = export("--run", "run-of-old", "--out", str(tmp_path / "old"))
    assert code == 0, line
    assert "version 77 of gold.vqa_examples is gone" in err
    card = (tmp_path / "old" / "README.md").read_text()
    assert "| gold.vqa_examples | 77 | not known |" in card
    assert "no whole evaluation of this checkpoint is recorded" in card
    assert "The figures that it was trained on: not known." in card

    model = Path(trained.root).parent / "run" / "model"  # in a lake that has no tables
    job = job_on(lake, main, capsys)
    alone = tmp_path / "alone"
    code, line, err = job("--model", str(model), "--out", str(alone))
    assert code == 0, line
    assert "does not know the run" in err
    assert line["training_run"] is None
    card = (alone / "README.md").read_text()
    assert f"Training run not known, checkpoint {CHECKPOINT}" in card

    lake.append(ML_RUNS, trained.read(ML_RUNS))  # and in one that has no examples
    code, line, err = job("--run", RUN, "--out", str(alone))
    assert code == 0, line
    assert "version 1 of gold.vqa_examples is gone" in err
    card = (alone / "README.md").read_text()  # in place of the first
    assert f"Training run {RUN}" in card
    assert "| gold.vqa_examples | 1 | not known |" in card


def test_what_makes_no_sense_is_said(trained: Lake, export: Job, tmp_path: Path) -> None:
    new, taken = str(tmp_path / "new"), tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("keep")
    other = tmp_path / "other"
    other.mkdir()
    (other / "facts.json").write_text(json.dumps({"run_id": "another"}))
    for argv, said in (
        (("--out", new), "--run RUN_ID or --model FOLDER"),
        (("--run", RUN), "--out"),
        (("--run", "run-that-seas", "--out", new), "did you mean run-that-sees?"),
        (("--run", "run-unfinished", "--out", new), "no model at"),
        (("--run", RUN, "--model", "/nowhere", "--out", new), "check --model"),
        (("--model", "/nowhere", "--out", new), "no model at /nowhere: check --model"),
        (("--model", str(other), "--out", new), "it has no recipe.json"),
        (("--run", RUN, "--model", str(other), "--out", new), "is of run another; name that run"),
        (("--run", RUN, "--out", str(taken)), "is there already, and is no exported model"),
        (("--run", RUN, "--out", str(taken / "notes.txt")), "is a file"),
    ):
        code, line, err = export(*argv)
        assert code == 2, line
        assert said in line["error"]
        assert "Traceback" not in err
    assert (taken / "notes.txt").read_text() == "keep"
    assert not Path(new).exists()

"""The whole evaluation of a model that sees squares, on tables in a lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.evaluate_vlm import main
from jobs.lake import Lake
from schemas import ML_RUNS, PREDICTIONS, SCORES, VLM_EXAMPLES, VQA_EXAMPLES, Table
from schemas.ml import CONTROLS
from tests.job_runs import Job, job_on
from tests.ml.seeing import SQUARES, answers, save_seeing_model, seeing_recipe
from tests.ml.seeing_lake import run_row, vlm_rows, vqa_rows, write

pytestmark = pytest.mark.slow

RUN = "run-by-split"
VERSION = 1  # a table is created, and then written to
TEST_SQUARES = [n for n in range(SQUARES) if n // 2 % 10 >= 7]


@pytest.fixture(scope="module")
def seen(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Tables, a model, and runs that say they are its: by split, by fold, and without a model."""
    folder = tmp_path_factory.mktemp("evaluate")
    lake = Lake(spark, str(folder / "lake"))
    lake.check_root()
    write(lake, VQA_EXAMPLES, vqa_rows())
    write(lake, VLM_EXAMPLES, vlm_rows())
    recipe = seeing_recipe(folder / "parts")
    save_seeing_model(folder / "run" / "model", recipe)
    by_fold = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"split_by": "fold", "fold": 3}),
            "stages": recipe.stages[1:],
        }
    )
    runs = [
        run_row(lake, RUN, recipe, folder / "run"),
        run_row(lake, "run-by-fold", by_fold, folder / "run"),
        run_row(lake, "run-unfinished", recipe, folder / "nowhere", outcome="failed"),
    ]
    write(lake, ML_RUNS, runs)
    return lake


@pytest.fixture
def evaluate(seen: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(seen, main, capsys, "--pool", "0")


@pytest.fixture(scope="module")
def evaluated(seen: Lake) -> Lake:
    """The lake after an evaluation by the run's own split."""
    assert main(["--run", RUN, "--pool", "2", "--batch", "8", "--lake", seen.root]) == 0
    return seen


def _predictions(lake: Lake, where: str) -> pd.DataFrame:
    return lake.read(PREDICTIONS).where(where).toArrow().to_pandas()


def _scores(lake: Lake, where: str = f"run_id = '{RUN}'") -> dict[tuple[str, str], Any]:
    rows = lake.read(SCORES).where(f"{where} AND `group` = 'all'").collect()
    return {(row["control"], row["metric"]): row for row in rows}


def test_each_question_is_a_row_under_each_control(evaluated: Lake) -> None:
    rows = _predictions(evaluated, f"run_id = '{RUN}'")
    assert len(rows) == len(CONTROLS) * 2 * len(TEST_SQUARES)
    assert not rows.duplicated(list(PREDICTIONS.key)).any()
    assert set(rows["image_id"]) == set(TEST_SQUARES)
    assert set(rows["checkpoint"]) == {"instruct-000060"}
    assert set(rows["table_version"]) == {VERSION}
    assert set(rows["split"]) == {"test"}


def test_it_says_what_it_saw(evaluated: Lake) -> None:
    rows = _predictions(evaluated, f"run_id = '{RUN}' AND control IN ('image', 'swapped')")
    for row in rows.to_dict("records"):
        closed, opened = answers(int(row["shown_image_id"]))
        assert row["prediction"] == (closed if row["closed"] else opened)
    swapped = rows[rows["control"] == "swapped"]
    assert (swapped["shown_image_id"] // 2 != swapped["image_id"] // 2).all()  # another group
    of_a_square = swapped.groupby("image_id")["shown_image_id"]
    assert (of_a_square.nunique() == 1).all()


def test_without_seeing_one_answer_serves_all(evaluated: Lake) -> None:
    rows = _predictions(
        evaluated, f"run_id = '{RUN}' AND control IN ('blank', 'no_image', 'majority')"
    )
    by_question = rows.groupby(["control", "question"])["prediction"].nunique()
    assert (by_question == 1).all()
    without_model = _predictions(evaluated, f"run_id = '{RUN}' AND control = 'majority'")
    assert without_model["confidence"].isna().all()
    assert without_model["shown_image_id"].isna().all()


def test_scores_are_the_means_of_the_predictions(evaluated: Lake) -> None:
    rows = _predictions(evaluated, f"run_id = '{RUN}'")
    scores = _scores(evaluated)
    for control in CONTROLS:
        mine = rows[rows["control"] == control]
        for metric in ("strict", "substring", "recall", "precision", "f1", "exact", "bleu"):
            found = scores[control, metric]
            assert found["score"] == pytest.approx(mine[metric].mean())
            assert found["n"] == mine[metric].notna().sum()
            assert found["low"] <= found["score"] <= found["high"]
    assert scores["image", "strict"]["score"] == scores["image", "f1"]["score"] == 1
    assert scores["image", "score"]["score"] == 1
    difference = scores["image minus no_image", "score"]
    assert difference["score"] == pytest.approx(1 - scores["no_image", "score"]["score"])
    assert 0.2 < difference["low"] <= difference["score"] <= difference["high"]


def test_scores_are_also_by_modality_and_type(evaluated: Lake) -> None:
    rows = evaluated.read(SCORES).where(
        f"run_id = '{RUN}' AND control = 'image' AND metric = 'score'"
    )
    counts = {(r["group"], r["value"]): r["n"] for r in rows.collect()}
    test = len(TEST_SQUARES)
    assert counts["all", "all"] == 2 * test
    assert counts["question_type", "PRES"] == counts["question_type", "ATTRIB"] == test
    assert counts["modality", "ct"] + counts["modality", "mri"] == 2 * test


def test_captions_are_likelier_with_their_image(evaluated: Lake) -> None:
    scores = _scores(evaluated, f"run_id = '{RUN}' AND table_name = '{VLM_EXAMPLES.name}'")
    perplexity = {c: scores[c, "perplexity"]["score"] for c in ("image", "no_image", "swapped")}
    assert 1 <= perplexity["image"] < perplexity["no_image"]
    assert perplexity["image"] < perplexity["swapped"]
    gain = scores["image minus no_image", "log_likelihood"]
    assert 0 < gain["low"] < gain["score"] < gain["high"]
    # Two captions there are, so the pool holds both, and each is found for its image.
    assert scores["image", "image_to_text_recall_at_1"]["score"] == 1
    assert scores["image", "text_to_image_recall_at_1"]["score"] == 1
    assert scores["image", "image_to_text_recall_at_1"]["n"] == 2


def test_again_it_replaces_its_rows(evaluated: Lake, evaluate: Job) -> None:
    before = {row["at"] for row in evaluated.read(PREDICTIONS).where(f"run_id = '{RUN}'").collect()}
    rows = evaluated.read(PREDICTIONS).count()
    scores = _scores(evaluated)
    code, line, _ = evaluate("--run", RUN)
    assert code == 0
    assert evaluated.read(PREDICTIONS).count() == rows
    after = {row["at"] for row in evaluated.read(PREDICTIONS).where(f"run_id = '{RUN}'").collect()}
    assert after.isdisjoint(before)
    same = ("image minus swapped", "f1")
    again = _scores(evaluated)[same]
    assert [again[k] for k in ("n", "score", "low", "high")] == [
        scores[same][k] for k in ("n", "score", "low", "high")
    ]
    assert line["questions"]["scores"]["image"]["strict"] == 1
    assert line["questions"]["images_in_training"] == 0
    assert line["tables_in"] == {VQA_EXAMPLES.name: VERSION, VLM_EXAMPLES.name: VERSION}


def test_a_fold_is_a_split_of_its_own(evaluated: Lake, evaluate: Job) -> None:
    code, line, _ = evaluate("--run", "run-by-fold")
    assert code == 0, line
    rows = _predictions(evaluated, "run_id = 'run-by-fold'")
    assert set(rows["split_by"]) == {"fold"}
    assert set(rows["split"]) == {"3"}
    assert set(rows["image_id"]) == {n for n in range(SQUARES) if n // 2 % 5 == 3}
    assert "captions" not in line  # this recipe learnt none


def test_rows_that_it_was_trained_on_are_refused(evaluate: Job) -> None:
    code, line, _ = evaluate("--run", "run-by-fold", "--fold", "2")
    assert code == 3
    assert "trained on 16 of the 16 rows" in line["error"]
    assert "--split-by fold --fold 3" in line["error"]
    code, line, _ = evaluate("--run", RUN, "--split-by", "published_split")
    assert code == 3
    assert "trained on" in line["error"]
    assert line["error"].endswith("--split-by split")


def test_some_rows_are_a_split_of_their_own(evaluated: Lake, evaluate: Job) -> None:
    before = evaluated.read(PREDICTIONS).where("split = 'test'").count()
    code, line, _ = evaluate("--run", RUN, "--limit", "5")
    assert code == 0
    assert line["questions"]["split"] == "test[:5]"
    assert line["rows"] == {"questions": 5, "predictions": 30, "captions": 5}
    assert evaluated.read(PREDICTIONS).where("split = 'test'").count() == before


def test_controls_can_be_left_out(evaluated: Lake, evaluate: Job) -> None:
    code, line, _ = evaluate("--run", RUN, "--limit", "4", "--controls", "no_image")
    assert code == 0, line
    assert line["rows"] == {"questions": 4, "predictions": 16, "captions": 4}
    scores = line["questions"]["scores"]
    assert {"image", "no_image", "image minus no_image", "majority"} <= scores.keys()
    assert not scores.keys() & {"blank", "swapped", "image minus swapped"}


def test_answers_are_there_before_the_table_is_locked(
    evaluate: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, bool] = {}
    replace = Lake.replace

    def watched(lake: Lake, table: Table, rows: DataFrame, *more: Any) -> None:
        kept[table.name] = rows.storageLevel.useDisk
        replace(lake, table, rows, *more)

    monkeypatch.setattr(Lake, "replace", watched)
    code, line, _ = evaluate("--run", "run-by-fold", "--limit", "2", "--controls")
    assert code == 0, line
    assert kept[PREDICTIONS.name]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--run", "run-by-spilt"], "did you mean run-by-split?"),
        (["--run", "zzz"], "the latest are run-"),
        (["--run", "run-unfinished"], "no model at"),
        (["--run", RUN, "--model", "/nowhere"], "check --model"),
        (["--run", RUN, "--fold", "1"], "--split-by fold"),
        (["--run", RUN, "--split-by", "fold", "--fold", "7"], "must be 0 to 4"),
        (["--run", RUN, "--limit", "0"], "--limit 0: must be 1 or more"),
        (["--run", RUN, "--batch", "0"], "--batch 0: must be 1 or more"),
        (["--run", RUN, "--pool", "-1"], "--pool -1: must be 0 or more"),
        (["--run", RUN, "--table-version", "newest"], "write a number, or current"),
        (["--run", RUN, "--table-version", "99"], "version 99 of gold.vqa_examples"),
    ],
)
def test_what_makes_no_sense_is_said(evaluate: Job, argv: list[str], said: str) -> None:
    code, line, _ = evaluate(*argv)
    assert code == 2, line
    assert said in line["error"]


def test_missing_tables_name_the_job_that_makes_them(
    lake: Lake, seen: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_on(lake, main, capsys)
    code, line, _ = job("--run", RUN)
    assert (code, "jobs/train_vlm.py" in line["error"]) == (2, True)
    lake.append(ML_RUNS, seen.read(ML_RUNS))
    code, line, _ = job("--run", RUN)
    assert (code, "jobs/prepare_captions.py" in line["error"]) == (2, True)
    write(lake, VQA_EXAMPLES, [r for r in vqa_rows() if r["split"] == "train"])
    code, line, _ = job("--run", RUN)
    assert (code, "no test rows" in line["error"]) == (2, True)


def test_a_version_whose_files_are_gone_is_said(
    lake: Lake, seen: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vacuumed: the log still has the version, but its files are not there."""
    lake.append(ML_RUNS, seen.read(ML_RUNS).where(F.col("run_id") == "run-by-fold"))
    write(lake, VQA_EXAMPLES, vqa_rows())
    files = [Path(row[0]) for row in _files(lake).collect()]
    lake.replace(VQA_EXAMPLES, seen.read(VQA_EXAMPLES), "true")
    for file in files:
        Path(str(file).removeprefix("file:")).unlink()
    job = job_on(lake, main, capsys)
    code, line, _ = job("--run", "run-by-fold")
    assert code == 2, line
    assert "is gone" in line["error"]
    assert "--table-version current" in line["error"]
    code, line, _ = job("--run", "run-by-fold", "--table-version", "current", "--limit", "2")
    assert code == 0, line
    assert line["tables_in"][VQA_EXAMPLES.name] == lake.version(VQA_EXAMPLES)


def test_a_version_that_is_not_as_declared_is_said(
    lake: Lake, seen: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one is that was written before a type was changed, by hand."""
    lake.append(ML_RUNS, seen.read(ML_RUNS).where(F.col("run_id") == "run-by-fold"))
    rows = seen.read(VQA_EXAMPLES)
    path = lake.path(VQA_EXAMPLES)
    for _ in range(VERSION + 1):  # the run is of VERSION
        rows.withColumn("fold", F.lit("0")).write.format("delta").mode("overwrite").save(path)
    rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(path)
    job = job_on(lake, main, capsys)
    code, line, _ = job("--run", "run-by-fold", "--limit", "2", "--controls")
    assert code == 2, line
    assert "fold: is string, should be int" in line["error"]
    assert line["error"].endswith("--table-version current takes the newest")
    with_newest = ("--table-version", "current", "--limit", "2", "--controls")
    code, line, said = job("--run", "run-by-fold", *with_newest)
    assert code == 0, line
    assert "what it was trained on is told from version 2" in said


def _files(lake: Lake) -> Any:
    rows = DeltaTable.forPath(lake.spark, lake.path(VQA_EXAMPLES)).toDF()
    return rows.select(F.input_file_name()).distinct()

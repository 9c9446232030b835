"""Questions of tables that others made, answered by a model that sees squares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.answer_questions import main
from jobs.lake import Lake
from schemas import ANSWERS, ML_RUNS, VLM_EXAMPLES, VQA_EXAMPLES
from schemas.frames import frame_of
from tests.job_runs import Job, job_on
from tests.ml.made_tables import square
from tests.ml.seeing import QUESTIONS, answers, save_seeing_model, seeing_recipe, shade
from tests.ml.seeing_lake import run_row, vqa_rows, write

pytestmark = pytest.mark.slow

RUN = "run-that-sees"
MODEL = "instruct-000060"
SHOWN = (6, 7)  # a dark square and a bright one


@pytest.fixture(scope="module")
def asked(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Questions of the lake, a model, and runs: one that left it, and one on captions alone."""
    folder = tmp_path_factory.mktemp("answer")
    lake = Lake(spark, str(folder / "lake"))
    lake.check_root()
    write(lake, VQA_EXAMPLES, vqa_rows(SHOWN))
    recipe = seeing_recipe(folder / "parts")
    save_seeing_model(folder / "run" / "model", recipe)
    captions = recipe.model_copy(update={"stages": recipe.stages[:1]})
    tables = {VLM_EXAMPLES.name: 0, VQA_EXAMPLES.name: 1}
    runs = [
        run_row(lake, RUN, recipe, folder / "run", tables_in=tables),
        run_row(lake, "run-on-captions", captions, folder / "run", tables_in=tables),
        run_row(lake, "run-unfinished", recipe, folder / "nowhere", tables_in=tables),
    ]
    write(lake, ML_RUNS, runs)
    return lake


@pytest.fixture
def answer(asked: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(asked, main, capsys, "--run", RUN, "--batch", "4")


def _table(spark: SparkSession, path: Path, rows: list[tuple[Any, ...]], schema: str) -> str:
    """A Delta table of somebody else at `path`."""
    frame_of(spark, rows, schema).write.format("delta").save(str(path))
    return str(path)


def _answers(lake: Lake, table: str, **others: Any) -> dict[str, Any]:
    named = [F.col(name) == value for name, value in ({"table_name": table} | others).items()]
    rows = lake.read(ANSWERS)
    for condition in named:
        rows = rows.where(condition)
    found = rows.collect()
    assert len({row["key"] for row in found}) == len(found)
    return {row["key"]: row for row in found}


def test_every_question_of_a_table_is_answered_once(asked: Lake, answer: Job) -> None:
    code, line, _ = answer()
    assert code == 0, line
    assert line["rows"] == {"read": 4, "answered": 4, "refused": 0}
    assert line["tables_in"] == {VQA_EXAMPLES.name: 1}
    assert list(line["tables_out"]) == [ANSWERS.name]
    first = _answers(asked, VQA_EXAMPLES.name)
    for number in SHOWN:
        for k, answer_to in enumerate(answers(number)):
            row = first[str(1000 + 2 * number + k)]
            assert (row["question"], row["answer"]) == (QUESTIONS[k], answer_to)
            assert 0.5 < row["confidence"] <= 1
            assert (row["reason"], row["table_version"]) == (None, 1)
            assert (row["run_id"], row["checkpoint"]) == (RUN, MODEL)
            assert row["template"] == "question_answer"

    code, line, _ = answer()  # again: the same rows, written anew
    assert code == 0, line
    again = _answers(asked, VQA_EXAMPLES.name)
    assert {k: (r["answer"], r["confidence"]) for k, r in again.items()} == {
        k: (r["answer"], pytest.approx(r["confidence"])) for k, r in first.items()
    }
    assert min(r["at"] for r in again.values()) > max(r["at"] for r in first.values())


def test_what_cannot_be_answered_has_its_reason(
    spark: SparkSession, asked: Lake, answer: Job, tmp_path: Path
) -> None:
    bright = square(shade(7))
    rows = [
        ("bright", bright, QUESTIONS[0]),
        ("brackets", bright, "{answer} `$1`; DROP TABLE x --"),
        ("long", bright, "why? " * 2000),
        ("unasked", bright, None),
        ("empty", bright, ""),
        ("blank", bright, " \n\t"),
        ("nothing", None, None),
        ("absent", None, QUESTIONS[0]),
        ("no bytes", b"", QUESTIONS[0]),
        ("text", b"no image", QUESTIONS[0]),
        ("cut", bright[: len(bright) // 2], QUESTIONS[0]),
        ("tiny", square(9, 4), QUESTIONS[0]),
    ]
    table = _table(spark, tmp_path / "it's others'", rows, "k string, i binary, q string")
    code, line, _ = answer("--table", table, "--key", "k", "--image", "i", "--question", "q")
    assert code == 0, line
    assert line["rows"] == {"read": 12, "answered": 3, "refused": 9}
    found = _answers(asked, table)
    assert {k: r["reason"] for k, r in found.items()} == {
        "bright": None,
        "brackets": None,
        "long": None,
        "unasked": "no_question",
        "empty": "no_question",
        "blank": "no_question",
        "nothing": "no_question",
        "absent": "no_image",
        "no bytes": "empty_file",
        "text": "not_an_image",
        "cut": "truncated",
        "tiny": "too_small",
    }
    assert found["bright"]["answer"] == "Yes"
    assert {k: r["question"] for k, r in found.items()} == {k: q for k, _, q in rows}
    assert sum(line["reasons"].values()) == 9


def test_an_image_may_be_bytes_with_a_path_that_is_not_followed(
    spark: SparkSession, asked: Lake, answer: Job, tmp_path: Path
) -> None:
    file = tmp_path / "bright.jpg"
    file.write_bytes(square(shade(7)))
    rows = [
        (1, {"bytes": square(shade(6)), "path": str(file)}, QUESTIONS[0]),
        (2, {"bytes": None, "path": str(file)}, QUESTIONS[0]),
        (3, None, QUESTIONS[0]),
    ]
    schema = "id int, `the.image` struct<bytes: binary, path: string>, question string"
    table = _table(spark, tmp_path / "t", rows, schema)
    code, line, _ = answer("--table", table, "--key", "id", "--image", "the.image")
    assert code == 0, line
    found = _answers(asked, table)
    assert [(k, found[k]["answer"], found[k]["reason"]) for k in "123"] == [
        ("1", "No", None),
        ("2", None, "no_image"),
        ("3", None, "no_image"),
    ]


def test_a_version_is_kept_beside_the_next(
    spark: SparkSession, asked: Lake, answer: Job, tmp_path: Path
) -> None:
    schema = "example_id long, image binary, question string"
    table = _table(spark, tmp_path / "t", [(1, square(shade(6)), QUESTIONS[0])], schema)
    more = frame_of(spark, [(2, square(shade(7)), QUESTIONS[0])], schema)
    more.write.format("delta").mode("append").save(table)
    for version, count in (("0", 1), (None, 2)):
        pinned = ("--table-version", version) if version else ()
        code, line, _ = answer("--table", table, *pinned)
        assert (code, line["rows"]["read"]) == (0, count), line
    assert {k: r["answer"] for k, r in _answers(asked, table, table_version=0).items()} == {
        "1": "No"
    }
    assert {k: r["answer"] for k, r in _answers(asked, table, table_version=1).items()} == {
        "1": "No",
        "2": "Yes",
    }

    DeltaTable.forPath(spark, table).delete("example_id < 9")
    code, line, _ = answer("--table", table, "--out-table", "ml.other_answers")
    assert (code, line["rows"]) == (0, {"read": 0, "answered": 0, "refused": 0}), line
    assert list(line["tables_out"]) == ["ml.other_answers"]
    for file in tmp_path.glob("t/*.parquet"):
        file.unlink()
    code, line, _ = answer("--table", table, "--table-version", "1")
    assert (code, "its files are gone" in line["error"]) == (2, True), line
    code, line, _ = answer("--table", table, "--table-version", "9")
    assert (code, "has no version 9" in line["error"]) == (2, True), line


def test_rows_that_cannot_be_told_apart_are_refused(
    spark: SparkSession, asked: Lake, answer: Job, tmp_path: Path
) -> None:
    schema = "example_id string, image binary, question string"
    for number, (keys, said) in enumerate(
        ((("a", "b", "a"), "2 rows share their example_id"), (("a", None, "b"), "1 rows have no"))
    ):
        rows = [(key, square(9), "why?") for key in keys]
        table = _table(spark, tmp_path / str(number), rows, schema)
        code, line, _ = answer("--table", table)
        assert (code, line["outcome"]) == (3, "refused"), line
        assert said in line["error"]
        assert "--key" in line["error"]
        assert not _answers(asked, table)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--run", "run-that-seas"], "did you mean run-that-sees?"),
        (["--run", "run-on-captions"], "has no stage on questions"),
        (["--run", "run-unfinished"], "no model at"),
        (["--model", "/nowhere"], "check --model"),
        (["--table", "gold.questions"], "no Delta table at"),
        (["--table", "/nowhere/questions"], "no Delta table at /nowhere/questions"),
        (["--table-version", "new"], "--table-version new: write a number"),
        (["--table-version", "99"], "has no version 99"),
        (["--key", "example"], "did you mean example_id?"),
        (["--key", "closed"], "--key closed: must be text or a whole number, not boolean"),
        (["--image", "images"], "did you mean image?"),
        (["--image", "question"], "must be binary, or a struct with a binary field bytes"),
        (["--question", "xyz"], "no such column; there are example_id,"),
        (["--question", "image"], "--question image: must be text, not binary"),
        (["--out-table", "answers"], "write layer.table"),
        (["--out-table", "../x.answers"], "write layer.table"),
        (["--out-table", "gold.vqa_examples"], "holds something else"),
        (["--batch", "0"], "write a whole number above 0"),
    ],
)
def test_what_makes_no_sense_is_said(asked: Lake, answer: Job, argv: list[str], said: str) -> None:
    code, line, err = answer(*argv)
    assert code == 2, line
    assert said in line["error"]
    assert "Traceback" not in err

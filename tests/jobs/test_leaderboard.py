"""The leaderboard of runs whose answers are known, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.lake import Lake
from jobs.leaderboard import main
from jobs.leaderboard_story import curves_of
from ml.evaluation.scores import scores_of
from ml.leaderboard.ranking import ranked
from ml.recipe import Recipe
from schemas import LEADERBOARD, METRICS, ML_RUNS, PREDICTIONS, VLM_EXAMPLES, VQA_EXAMPLES
from schemas.ml import CONTROLS
from tests.figure_tables import frame
from tests.job_runs import Job, job_on
from tests.ml.seeing import seeing_recipe
from tests.ml.seeing_lake import AT, metric_rows, run_row, vlm_rows, vqa_rows, write
from tests.ml.test_leaderboard_ranking import answers, entry
from tests.ml.test_leaderboard_ranking import recipe as made_recipe

pytestmark = pytest.mark.slow

WRONG = {"Yes": "No", "No": "Yes", "dark gray": "blue <b>", "light gray": "gray"}


def said(
    run_id: str,
    recipe: Recipe,
    *,
    right: float,
    checkpoint: str = "model",
    split: str | None = None,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Predictions of a run: with the image right in the first `right` of ten, else wrong."""
    data = recipe.data
    rows = []
    for row in vqa_rows():
        own = row["fold"] == data.fold if data.split_by == "fold" else row["split"] == "test"
        if not own:
            continue
        for control in CONTROLS:
            is_right = control == "image" and row["example_id"] * 7 % 10 < 10 * right
            text = row["answer"] if is_right else WRONG[row["answer"]]
            rows.append(
                {
                    "run_id": run_id,
                    "checkpoint": checkpoint,
                    "table_version": 1,
                    "split_by": data.split_by,
                    "split": split or (str(data.fold) if data.split_by == "fold" else "test"),
                    "control": control,
                    **{k: row[k] for k in ("example_id", "image_id", "question", "answer",
                                           "closed", "question_type", "modality")},
                    "shown_image_id": row["image_id"] if control == "image" else None,
                    "prediction": text,
                    "confidence": None if control in CONTROLS[4:] else 0.75,
                    "at": AT,
                    **scores_of(text, row["answer"], closed=row["closed"]),
                    **changes,
                }
            )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return seeing_recipe(tmp_path_factory.mktemp("parts"))


def changed(recipe: Recipe, name: str, *, seed: int = 0, fold: int | None = None) -> Recipe:
    """The recipe as a prototype of that name: names decide how wide the image is."""
    encoder = recipe.model.encoder.model_copy(update={"image_px": 16 * len(name.split("-")[0])})
    by_fold = {"split_by": "fold", "fold": fold} if fold is not None else {}
    return recipe.model_copy(
        update={
            "name": name,
            "seed": seed,
            "model": recipe.model.model_copy(update={"encoder": encoder}),
            "data": recipe.data.model_copy(update=by_fold),
        }
    )


@pytest.fixture
def board(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(lake, main, capsys, "--page", str(tmp_path / "board.html"))


def page_of(line: dict[str, Any]) -> str:
    return Path(line["page"]).read_text(encoding="utf-8")


def rows_of(lake: Lake) -> list[Any]:
    return lake.read(LEADERBOARD).orderBy("split_by", "place").collect()


def test_what_is_missing_names_the_job_that_makes_it(
    lake: Lake, board: Job, recipe: Recipe
) -> None:
    code, line, _ = board()
    assert (code, "jobs/train_vlm.py" in line["error"]) == (2, True)
    lake.create(VLM_EXAMPLES)
    write(lake, VQA_EXAMPLES, vqa_rows())
    write(lake, ML_RUNS, [run_row(lake, "a", recipe, Path("/runs/a"))])
    code, line, _ = board()
    assert (code, "jobs/evaluate_vlm.py" in line["error"]) == (2, True)
    write(lake, PREDICTIONS, said("a", recipe, right=1, split="test[:5]"))
    code, line, _ = board()
    assert (code, "without --limit" in line["error"]) == (2, True)


def test_the_better_prototype_is_first(lake: Lake, board: Job, recipe: Recipe) -> None:
    write(lake, VQA_EXAMPLES, vqa_rows())
    write(lake, VLM_EXAMPLES, vlm_rows())
    good, bad = changed(recipe, "good"), changed(recipe, "worse")
    runs = [
        run_row(lake, "g", good, Path("/runs/g"), peak_bytes=2_000_000_000),
        run_row(lake, "b", bad, Path("/runs/b")),
    ]
    write(lake, ML_RUNS, runs)
    # An earlier evaluation of the same run does not count.
    early = AT.replace(year=2025)
    rows = said("g", good, right=0.1, checkpoint="early", at=early)
    rows += said("g", good, right=0.9) + said("b", bad, right=0.4)
    rows += said("gone", bad, right=1)  # a run that ml.runs lacks
    write(lake, PREDICTIONS, rows)
    losses = metric_rows("g", {"align": [5.0, 4.0], "instruct": [3.0, None, 1.0]})
    write(lake, METRICS, losses + metric_rows("b", {"align": [5.5, 4.5]}))
    code, line, said_aloud = board()
    assert code == 0, line
    first, second = rows_of(lake)
    assert [first["recipe"], second["recipe"]] == ["good", "worse"]
    assert [first["place"], second["place"]] == [1, 2]
    assert first["runs"] == ["g"]
    assert first["closed_low"] <= first["closed_strict"] <= first["closed_high"]
    assert first["over_no_image"] > first["over_no_image_low"] > 0
    assert first["peak_bytes"] == 2_000_000_000
    assert first["tables_in"] == {"gold.vqa_examples": 1, "gold.vlm_examples": 1}
    assert first["behind_first"] is None
    assert second["behind_first"] == pytest.approx(first["score"] - second["score"])
    assert second["behind_low"] > 0
    assert line["first"]["recipe"] == "good"
    assert "run gone is in ml.predictions and not in ml.runs" in said_aloud
    page = page_of(line)
    assert "good answers" in page
    assert page.count("data:image/jpeg;base64,") > 5
    assert "Loss, stage align" in page
    assert "Loss, stage instruct" in page
    assert "blue &lt;b&gt;" in page  # what a model says is text
    assert "blue <b>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_folds_and_seeds_are_one_prototype(lake: Lake, board: Job, recipe: Recipe) -> None:
    write(lake, VQA_EXAMPLES, vqa_rows())
    write(lake, VLM_EXAMPLES, vlm_rows())
    runs, rows = [], []
    for seed in (0, 1):
        for fold in (0, 1, 2):
            made_by = changed(recipe, f"rad-{seed}-{fold}", seed=seed, fold=fold)
            runs.append(run_row(lake, f"r{seed}{fold}", made_by, Path("/runs")))
            rows += said(f"r{seed}{fold}", made_by, right=0.5 + 0.2 * seed)
    write(lake, ML_RUNS, runs)
    write(lake, PREDICTIONS, rows)
    code, line, _ = board()
    assert code == 0, line
    (row,) = rows_of(lake)
    assert row["recipe"] == "rad"
    assert row["seeds"] == 2
    assert row["splits"] == ["0", "1", "2"]
    assert len(row["runs"]) == 6
    assert row["questions"] == sum(r["fold"] <= 2 for r in vqa_rows())
    assert row["seed_deviation"] > 0
    assert row["split_by"] == "fold"
    assert "3 folds by image" in page_of(line)
    # Again it is the same table.
    assert board()[0] == 0
    assert len(rows_of(lake)) == 1


def test_two_prototypes_of_one_name_have_a_curve_each(lake: Lake) -> None:
    groups = ranked(
        [
            entry("abcd12", [(made_recipe("rad"), answers("a", "0", {1: 1}))]),
            entry("ef0123", [(made_recipe("rad"), answers("b", "1", {2: 1}))]),
        ]
    )
    rows = metric_rows("a", {"align": [5.0, 3.0]}) + metric_rows("b", {"align": [9.0, 7.0]})
    (curve,) = curves_of(frame(lake.spark, METRICS, rows), groups)
    assert dict(curve.series) == {"rad abcd": [5.0, 3.0], "rad ef01": [9.0, 7.0]}


def test_images_that_are_gone_leave_gaps(lake: Lake, board: Job, recipe: Recipe) -> None:
    lake.create(VQA_EXAMPLES)
    lake.create(VLM_EXAMPLES)
    write(lake, ML_RUNS, [run_row(lake, "a", recipe, Path("/runs/a"))])
    write(lake, PREDICTIONS, said("a", recipe, right=0.5, table_version=7))
    code, line, _ = board()
    assert code == 0, line
    assert "image is gone" in page_of(line)
    assert ML_RUNS.name in line["tables_in"]

"""A sweep in real ranks: the worse stop early, the better end as if they had never paused."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs import sweep_vlm, train_vlm
from jobs.lake import Lake
from jobs.run import Run
from jobs.sweep_vlm import _decided, _train_to, _training, main
from ml.recipe import load_recipe
from ml.sweep import Sweep
from ml.training.rank_failure import RankFailed
from ml.training.runs import TOKEN_IDS, RunFolder, Source
from pipelines.errors import DataRefused, UsageError
from schemas import METRICS, ML_RUNS, SWEEPS
from schemas.frames import frame_of
from tests.job_runs import Job, job_on
from tests.ml.training_lake import INSTRUCT, tiny_recipe, training_lake

pytestmark = pytest.mark.slow

STEPS = 6
RATE = "stages.instruct.learning_rate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def examples(spark: SparkSession, folder: Path) -> Lake:
    return training_lake(spark, folder)


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    return tiny_recipe(folder, "tiny", INSTRUCT, steps=STEPS, most_skipped=1)


@pytest.fixture
def sweep(examples: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(examples, main, capsys)


def rows(lake: Lake, sweep_id: str) -> dict[tuple[str, float], Row]:
    found = lake.read(SWEEPS).where(F.col("sweep_id") == sweep_id).collect()
    return {(row.recipe, row.rung): row for row in found}


def losses(lake: Lake, run_id: str) -> list[float]:
    found = lake.read(METRICS).where(F.col("run_id") == run_id).orderBy("step").collect()
    return [row.loss for row in found]


@pytest.mark.faults  # five starts of ranks
def test_the_better_goes_on_as_if_it_had_not_paused(
    sweep: Job, examples: Lake, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A rate of nothing learns nothing, and one of 1e30 ends in what is not finite.
    what = ("--recipes", str(recipe), "--vary", f"{RATE}=1e-9,3e-3,1e30", "--keep", "0.3")
    code, line, _ = sweep(*what, "--rungs", "0.5,1", "--run-id", "try")
    assert code == 0, line
    dull, good, sick = (f"tiny-learning_rate-{x}" for x in ("1e-09", "0.003", "1e-30"))
    assert line["best"] == f"try-{good}"
    found = rows(examples, "try")
    assert set(found) == {(dull, 0.5), (good, 0.5), (sick, 0.5), (good, 1.0)}
    assert (found[good, 0.5].place, found[good, 0.5].goes_on, found[good, 0.5].step) == (1, True, 3)
    assert (found[dull, 0.5].place, found[dull, 0.5].goes_on) == (2, False)
    assert found[good, 0.5].validation_loss < found[dull, 0.5].validation_loss
    assert (found[sick, 0.5].validation_loss, found[sick, 0.5].goes_on) == (None, False)
    assert "not finite" in found[sick, 0.5].error
    assert found[good, 1.0].validation_loss == line["validation_loss"]
    folder = RunFolder(Path(examples.root) / ".runs" / f"try-{good}")
    assert (folder.model / "facts.json").is_file()
    last = examples.read(ML_RUNS).where(f"run_id = 'try-{dull}'").orderBy("at").collect()[-1]
    assert (last.event, last.outcome) == ("end", "paused")

    # As if it had not paused: the same recipe by itself.
    alone = tiny_recipe(folder.path, "alone", INSTRUCT, steps=STEPS, learning_rate=3e-3)
    train = job_on(examples, train_vlm.main, capsys)
    assert train("--recipe", str(alone), "--run-id", "alone")[0] == 0
    expected = losses(examples, "alone")
    assert losses(examples, f"try-{good}") == pytest.approx(expected, rel=2e-5)

    # Killed before the last rung was written down, it has no step to take again.
    before = folder.metrics()
    examples.remove(SWEEPS, examples.read(SWEEPS).where("rung = 1").select(*SWEEPS.key))
    runs, of_end = examples.path(ML_RUNS), f"run_id = 'try-{good}' AND outcome = 'done'"
    examples.spark.sql(f"DELETE FROM delta.`{runs}` WHERE {of_end}")
    code, line, _ = sweep("--resume", "try")
    assert code == 0, line
    assert line["best"] == f"try-{good}"
    assert folder.metrics() == before
    assert examples.read(ML_RUNS).where(of_end).count() == 1
    assert rows(examples, "try").keys() == found.keys()


def test_a_rung_that_nobody_came_over_is_open(examples: Lake) -> None:
    sweep = Sweep("all-failed", {"a": load_recipe("demo-image")}, {}, 1, (0.5, 1.0), 0.5)
    run = Run("sweep_vlm", Namespace(lake=examples.root, run_id="all-failed"), examples.spark)
    failed: dict[str, Any] = {"recipe": "a", "goes_on": False, "error": "rank 0 was killed"}
    failed |= {"sweep_id": "all-failed", "run_id": "a", "rung": 0.5, "at": datetime.now(UTC)}
    values = [[failed.get(column.name) for column in SWEEPS.columns]]
    examples.append(SWEEPS, frame_of(examples.spark, values, SWEEPS.struct))
    assert _decided(run, sweep, 0.5) is None


def test_a_run_has_the_tables_of_its_recipe_and_the_token_ids(recipe: Path) -> None:
    tables = {kind: Source(kind, f"/lake/{kind}", 1) for kind in ("captions", "vqa", TOKEN_IDS)}
    sweep = Sweep("try", {"try-a": load_recipe(str(recipe))}, tables, 1, (1.0,), 0.5)
    assert set(_training(sweep, "try-a").tables) == {"vqa", TOKEN_IDS}


def test_a_recipe_that_ranks_refuse_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = Namespace(args=Namespace(feed_cache=None))
    sweep = Sweep("try", {"try-a": load_recipe("demo-image")}, {}, 4, (1.0,), 0.5)
    refused: Exception = UsageError("global_batch 2 is smaller than the 4 processes")

    def train(*_: object) -> None:
        raise refused from cause

    monkeypatch.setattr(sweep_vlm, "train", train)
    errors: dict[str, str] = {}
    cause: Exception | None = RankFailed(0, 2, str(refused))
    _train_to(run, sweep, tmp_path, "try-a", 1.0, errors)
    assert errors == {"try-a": str(refused)}
    cause = None
    with pytest.raises(UsageError, match="4 processes"):  # by the driver: the others have it too
        _train_to(run, sweep, tmp_path, "try-a", 1.0, errors)
    refused, cause = DataRefused("the table is damaged"), RankFailed(0, 3, "the table is damaged")
    with pytest.raises(DataRefused, match="damaged"):
        _train_to(run, sweep, tmp_path, "try-a", 1.0, errors)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--recipes says what to train, or --resume"),
        (["--recipes", "demo-imag"], "did you mean demo-image"),
        (["--recipes", "RECIPE"], "two recipes at least"),
        (["--recipes", "RECIPE", "RECIPE"], "two recipes are named tiny"),
        (["--recipes", "RECIPE", "--vary", "seed"], "write seed=1,2,3"),
        (["--recipes", "RECIPE", "--vary", "sede=1,2"], "did you mean seed"),
        (["--recipes", "RECIPE", "--vary", "seed=1,2", "--rungs", "0.5"], "shares that rise to 1"),
        (["--recipes", "RECIPE", "--vary", "seed=1,2", "--keep", "0"], "--keep"),
        (["--recipes", "RECIPE", "--vary", "seed=1,2", "--num-processes", "0"], "must be 1 or"),
        (["--recipes", "RECIPE", "--vary", "seed=1,2", "--device-memory", "1MB"], "does not fit"),
        (["--resume", "nobody"], "no sweep nobody in"),
    ],
)
def test_a_wrong_argument_starts_no_rank(
    sweep: Job, recipe: Path, argv: list[str], said: str
) -> None:
    code, line, _ = sweep(*[str(recipe) if x == "RECIPE" else x for x in argv])
    assert code == 2, line
    assert said in line["error"]

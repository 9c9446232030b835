"""A training killed with SIGKILL at a rank, at the driver and within a checkpoint: it goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.lake import Lake
from jobs.run import EXIT_DONE, EXIT_FAILED
from ml.training.checkpoint_files import PARTIAL
from ml.training.checkpoints import latest
from ml.training.runs import RunFolder
from schemas import METRICS, ML_RUNS
from tests.job_processes import JobProcess, start_job
from tests.ml.ranks import alive, gone
from tests.ml.training_lake import ALIGN, INSTRUCT, tiny_recipe, training_lake

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

STEPS = 40  # of each stage
RUN_ID = "killed"


class Training:
    """The job on a lake, and the folder of its run."""

    def __init__(self, lake: Lake, recipe: Path, logs: Path, run_id: str) -> None:
        self.lake, self.logs, self.run_id = lake, logs, run_id
        self.folder = RunFolder(Path(lake.root) / ".runs" / run_id)
        self.new = ("--recipe", str(recipe), "--num-processes", "2", "--run-id", run_id)
        self.starts = 0

    def start(self) -> JobProcess:
        self.starts += 1
        log = self.logs / f"{self.run_id}-{self.starts}.log"
        what = self.new if self.starts == 1 else ("--resume", self.run_id)
        return start_job("train_vlm", *what, "--force", "--lake", self.lake.root, log=log)

    def steps(self) -> list[tuple[str, int]]:
        rows, _ = self.folder.metrics()
        return [(row["stage"], row["step"]) for row in rows]

    def goes_on(self) -> bool:
        """Whether the latest start has taken a step."""
        rows, _ = self.folder.metrics()
        return any(row["attempt"] == self.starts - 1 for row in rows)

    def is_writing(self) -> bool:
        """Whether there is a checkpoint that is not whole."""
        return any(self.folder.checkpoints.glob(f"*{PARTIAL}"))

    def rank_pids(self) -> list[int]:
        """Process ids of the ranks, by rank."""
        found: dict[int, int] = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().decode().split("\0")
                if command[1:4] != ["-m", "ml.training.worker", str(self.folder.path)]:
                    continue
                variables = (process / "environ").read_bytes().decode().split("\0")
            except (OSError, UnicodeDecodeError):
                continue
            rank = next(x for x in variables if x.startswith("RANK="))
            found[int(rank.removeprefix("RANK="))] = int(process.name)
        return [pid for _, pid in sorted(found.items())]

    def curve(self) -> dict[tuple[str, int], dict[str, Any]]:
        """What ml.metrics has of each step, without times and sizes."""
        rows = self.lake.read(METRICS).filter(F.col("run_id") == self.run_id).collect()
        kept = ("loss", "validation_loss", "gradient_norm", "learning_rate", "examples", "tokens")
        curve = {
            (row.stage, row.step): {name: row[name] for name in kept if row[name] is not None}
            for row in rows
        }
        assert len(curve) == len(rows)
        return curve


def wait_for(job: JobProcess, moment: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not moment():
        assert job.process.poll() is None, job.log.read_text()[-4000:]
        assert time.monotonic() < until, job.log.read_text()[-4000:]
        time.sleep(0.001)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    settings = {"micro_batch": 2, "checkpoint_every": 6, "validate_every": 20}
    return tiny_recipe(tmp_path, "tiny", ALIGN, INSTRUCT, steps=STEPS, **settings)


@pytest.fixture
def examples(spark: SparkSession, tmp_path: Path) -> Lake:
    return training_lake(spark, tmp_path)


def test_it_goes_on_after_every_kill(examples: Lake, recipe: Path, tmp_path: Path) -> None:
    undisturbed = Training(examples, recipe, tmp_path, "undisturbed")
    code, line = undisturbed.start().result()
    assert code == EXIT_DONE, line
    expected = undisturbed.curve()
    assert len(expected) == 2 * STEPS

    killed = Training(examples, recipe, tmp_path, RUN_ID)

    # A rank, in the middle of the first stage.
    job = killed.start()
    wait_for(job, lambda: len(killed.steps()) >= 15)
    ranks = killed.rank_pids()
    os.kill(ranks[1], signal.SIGKILL)
    code, line = job.result()
    assert (code, line["error"][:30]) == (EXIT_FAILED, "rank 1 was killed by signal 9 ")
    assert not alive(ranks)
    steps = len(killed.steps())
    assert steps < 2 * STEPS
    assert latest(killed.folder.checkpoints) is not None

    # The driver, and with it the guard: everything that the job started but the ranks.
    job = killed.start()
    wait_for(job, lambda: killed.steps()[-1:] > [("align", STEPS)] and bool(killed.rank_pids()))
    ranks = killed.rank_pids()
    assert len(ranks) == 2
    job.kill()
    assert gone(ranks, within_s=10)
    assert len(killed.steps()) < 2 * STEPS

    # A rank while a checkpoint is written.
    for rank in (1, 0, 1, 0):
        job = killed.start()
        wait_for(job, killed.goes_on)  # what the kill before left of a checkpoint is gone then
        pids = killed.rank_pids()
        wait_for(job, killed.is_writing)
        os.kill(pids[rank], signal.SIGKILL)
        code, line = job.result()
        assert code == EXIT_FAILED, line
        if killed.is_writing():
            break
    else:
        pytest.fail("no kill was in time")

    code, line = killed.start().result()
    assert code == EXIT_DONE, line
    assert (killed.folder.model / "facts.json").exists()
    curve = killed.curve()
    assert curve.keys() == expected.keys()
    for step, row in expected.items():
        assert curve[step] == pytest.approx(row, rel=1e-5), step
    events = examples.read(ML_RUNS).filter(F.col("run_id") == RUN_ID).orderBy("at").collect()
    assert (events[0].event, events[-1].event, events[-1].outcome) == ("start", "end", "done")
    assert [row.event for row in events].count("end") == killed.starts - 1  # but the driver's kill
    assert json.loads((killed.folder.path / "run.json").read_text())["attempt"] == killed.starts - 1

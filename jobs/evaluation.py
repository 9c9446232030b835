"""One evaluation: which model, on which rows; and where its results go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.evaluated_rows import Tested
from jobs.lake import quoted
from jobs.models_in_tasks import Place, partitions_of
from jobs.run import Run
from jobs.trained_run import TrainedRun
from ml.evaluation.summary import Score
from schemas import SCORES
from schemas.frames import frame_of


@dataclass(frozen=True)
class Evaluation:
    """A model of a run, tested at some rows."""

    run: Run
    trained: TrainedRun
    checkpoint: str
    place: Place
    at: Tested

    @property
    def identity(self) -> dict[str, Any]:
        """The columns that say in each table which evaluation a row is of."""
        return {
            "run_id": self.trained.run_id,
            "checkpoint": self.checkpoint,
            "split_by": self.at.split_by,
            "split": self.at.split,
        }

    @property
    def where(self) -> str:
        """The rows of this evaluation, as SQL."""
        return " AND ".join(f"{name} = {quoted(value)}" for name, value in self.identity.items())

    def partitions(self, rows: int) -> int:
        """Among how many tasks so many rows for the model go."""
        return partitions_of(self.run.spark, rows, self.run.args.batch)

    def write_scores(self, scores: Sequence[Score]) -> None:
        """Replace what ml.scores has of this evaluation on this table."""
        table = self.at.table
        shared = {
            **self.identity,
            "table_name": table.name,
            "table_version": self.at.version,
            "at": datetime.now(UTC),
        }
        names = [c.name for c in SCORES.columns]
        rows = [[(shared | vars(score))[name] for name in names] for score in scores]
        where = f"{self.where} AND table_name = {quoted(table.name)}"
        self.run.lake.replace(SCORES, frame_of(self.run.spark, rows, SCORES.struct), where)


def checkpoint_of(folder: Path) -> str:
    """The stage and step of a model's weights, or the folder's name where it does not say."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return str(facts.get("checkpoint") or folder.name)


def interval_text(score: Score, scale: float = 100) -> str:
    """As "61.2 [55.0, 67.1]"."""
    if score.low is None or score.high is None:
        return f"{scale * score.score:.1f}"
    return f"{scale * score.score:.1f} [{scale * score.low:.1f}, {scale * score.high:.1f}]"

"""A training run as ml.runs has it: its recipe, its tables and its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pyspark.sql import functions as F

from jobs.lake import Lake
from ml.recipe import Recipe, checked
from ml.training.runs import RunFolder
from pipelines.errors import UsageError
from schemas import ML_RUNS


@dataclass(frozen=True)
class TrainedRun:
    """The latest row of a run; `tables_in` are the versions that it trained from."""

    run_id: str
    outcome: str
    recipe: Recipe
    folder: Path
    tables_in: Mapping[str, int]

    def template(self, data: Literal["captions", "vqa"]) -> str | None:
        """Name of the prompt template of the last stage on such data; None: there is no stage."""
        names = [stage.template for stage in self.recipe.stages if stage.data == data]
        return names[-1] if names else None

    def model(self, elsewhere: Path | None = None) -> Path:
        """Folder of its model, or the one that was asked for.

        UsageError where none is there, or one that says it is of another run.
        """
        folder = elsewhere or RunFolder(self.folder).model
        if not (folder / "facts.json").is_file():
            way_out = (
                "check --model"
                if elsewhere
                else f"its outcome is {self.outcome!r}: let jobs/train_vlm.py finish it, or name a "
                "folder with --model"
            )
            raise UsageError(f"run {self.run_id}: no model at {folder}; {way_out}")
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        made_by = facts.get("run_id", self.run_id)
        if made_by != self.run_id:
            raise UsageError(
                f"run {self.run_id}: the model at {folder} is of run {made_by}; name that run, or "
                "another folder with --model"
            )
        return folder


def trained_run(lake: Lake, run_id: str) -> TrainedRun:
    """The run of that id. UsageError, which names the nearest, where there is none."""
    if not lake.exists(ML_RUNS):
        raise UsageError(
            f"{ML_RUNS.name} is not in {lake.root}: run jobs/train_vlm.py first, or check --lake"
        )
    runs = lake.read(ML_RUNS)
    rows = runs.where(F.col("run_id") == run_id).orderBy(F.col("at").desc()).limit(1).collect()
    if not rows:
        known = [r[0] for r in runs.orderBy(F.col("at").desc()).select("run_id").collect()]
        near = get_close_matches(run_id, known, 1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"the latest are {', '.join(dict.fromkeys(known[:20]))}"
            if known
            else "the table is empty: run jobs/train_vlm.py first"
        )
        raise UsageError(f"no run {run_id} in {ML_RUNS.name}; {hint}")
    row = rows[0]
    return TrainedRun(
        run_id=run_id,
        outcome=row["outcome"],
        recipe=checked(json.loads(row["recipe_json"]), f"recipe of run {run_id}"),
        folder=Path(row["folder"]),
        tables_in=dict(row["tables_in"] or {}),
    )

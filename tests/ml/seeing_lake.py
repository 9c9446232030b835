"""A lake with questions and captions about squares, and runs of models that see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.lake import Lake
from ml.recipe import Recipe
from schemas import METRICS, ML_RUNS, VLM_EXAMPLES, VQA_EXAMPLES, Table
from tests.figure_tables import frame
from tests.ml.made_tables import square
from tests.ml.seeing import QUESTIONS, SQUARES, answers, caption, shade

AT = datetime(2026, 1, 1, tzinfo=UTC)


def vqa_rows(squares: Iterable[int] = range(SQUARES)) -> list[dict[str, Any]]:
    """Two questions a square; two squares are a group; published: by question, not by image."""
    rows = []
    for number in squares:
        for k, (question, answer) in enumerate(zip(QUESTIONS, answers(number), strict=True)):
            rows.append(
                {
                    "example_id": 1000 + 2 * number + k,
                    "image": square(shade(number)),
                    "image_id": number,
                    "question": question,
                    "answer": answer,
                    "closed": k == 0,
                    "question_type": ("PRES", "ATTRIB")[k],
                    "modality": ("ct", "mri")[number % 4 > 1],
                    "language": "en",
                    "source": "made",
                    "published_split": "test" if (number + k) % 5 == 0 else "train",
                    **_split(number),
                }
            )
    return rows


def vlm_rows() -> list[dict[str, Any]]:
    return [
        {
            "example_id": number,
            "revision": 1,
            "image": square(shade(number)),
            "text": caption(number),
            "modality": "ct",
            **_split(number),
        }
        for number in range(SQUARES)
    ]


def _split(number: int) -> dict[str, Any]:
    split = (("train",) * 6 + ("validation",) + ("test",) * 3)[number // 2 % 10]
    return {
        "split": split,
        "fold": number // 2 % 5,
        "group_id": number // 2,
        "order_key": hash((number, 1)) % 1000,
    }


def write(lake: Lake, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    lake.append(table, frame(lake.spark, table, [dict(row) for row in rows]))


def write_run(lake: Lake, run_id: str, recipe: Recipe, folder: Path, **changes: Any) -> None:
    """A run in ml.runs that is done, from the tables of examples as they are."""
    row = {
        "run_id": run_id,
        "at": AT,
        "event": "end",
        "outcome": "done",
        "recipe": recipe.name,
        "recipe_json": recipe.to_json(),
        "versions": {"roundtrip": "0"},
        "tables_in": {t.name: lake.version(t) for t in (VLM_EXAMPLES, VQA_EXAMPLES)},
        "folder": str(folder),
        "processes": 2,
        "zero_stages": [2, 2],
        "parameters": 60_000,
        "trained_parameters": 20_000,
        "steps": 60,
        "seconds": 12.5,
        "peak_bytes": 300_000_000,
    }
    write(lake, ML_RUNS, [row | changes])


def write_metrics(lake: Lake, run_id: str, losses: Mapping[str, list[float | None]]) -> None:
    """A row of ml.metrics for each loss of each stage."""
    rows = [
        {
            "run_id": run_id,
            "stage": stage,
            "step": step,
            "at": AT,
            "loss": loss,
            "skipped": loss is None,
            "examples": 16 * step,
            "tokens": 100,
            "seconds": 0.1,
        }
        for stage, values in losses.items()
        for step, loss in enumerate(values, 1)
    ]
    write(lake, METRICS, rows)

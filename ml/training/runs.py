"""The folder of a training run, which the driver and all ranks share.

    run.json          what is trained from what: written by the driver, read by the ranks
    metrics.jsonl     a line for each step, as ml.metrics has it: rank 0 appends
    ended.json        how the ranks ended, and the model's size: written by rank 0
    checkpoints/      see ml.training.checkpoints
    model/            the trained model, see ml.models.artefact
    tensorboard/      where it was asked for

Neither Spark nor torch is imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from ml.recipe import Recipe, checked
from pipelines.errors import DataRefused, UsageError

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_METRICS = "metrics.jsonl"
TOKEN_IDS = "token_ids"


@dataclass(frozen=True)
class Source:
    """A table that a run trains from: what, where and which version."""

    name: str
    path: str
    version: int


@dataclass(frozen=True)
class TrainingRun:
    """What is trained from what. `tables` are by the stages' kind of data, captions or vqa, and
    TOKEN_IDS where the lake has ids that save tokenising.

    `attempt` counts the starts before this one. `versions` are of the code and its libraries.
    `pause_at`: the share of the last stage's steps after which it pauses, with a checkpoint and a
    validation loss; it can go on as if it had not. `feed_cache`: a folder on each machine for what
    was read of remote tables.
    """

    run_id: str
    recipe: Recipe
    tables: Mapping[str, Source]
    processes: int
    versions: Mapping[str, str]
    attempt: int = 0
    tensorboard: bool = False
    pause_at: float | None = None
    feed_cache: str | None = None

    @property
    def table_versions(self) -> dict[str, int]:
        return {source.name: source.version for source in self.tables.values()}


@dataclass(frozen=True)
class Ended:
    """How the ranks of a start ended: the last checkpoint, and sizes where the model is done."""

    outcome: Literal["done", "paused", "stopped"]
    checkpoint: str | None
    parameters: int | None = None
    trained_parameters: int | None = None


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.tensorboard = self.path / "tensorboard"
        self._unwritten = b""

    def write(self, run: TrainingRun) -> None:
        """Write run.json, whole or not at all; what an earlier start left of its end goes."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "ended.json").unlink(missing_ok=True)
        fields = {**asdict(run), "recipe": json.loads(run.recipe.to_json())}
        _write_whole(self.path / "run.json", fields)

    def read(self) -> TrainingRun:
        """The run as it was written last. Raises UsageError where there is none."""
        path = self.path / "run.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"no training run at {self.path}: it has no run.json") from None
        except ValueError as e:
            raise DataRefused(f"{path} is damaged: {e}") from e
        tables = {kind: Source(**source) for kind, source in fields["tables"].items()}
        recipe = checked(fields["recipe"], f"recipe in {path}")
        return TrainingRun(**{**fields, "recipe": recipe, "tables": tables})

    def next_attempt(self) -> int:
        """How many starts there were: of the driver, and of ranks that Spark started anew."""
        rows, _ = self.metrics()
        return 1 + max([self.read().attempt, *(row["attempt"] for row in rows)])

    def write_end(self, ended: Ended) -> None:
        _write_whole(self.path / "ended.json", asdict(ended))

    def read_end(self) -> Ended | None:
        """How the last start ended; None where it was cut off."""
        path = self.path / "ended.json"
        return Ended(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def is_done(self) -> bool:
        """Whether the ranks have left the model."""
        ended = self.read_end()
        return ended is not None and ended.outcome == "done"

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a line, or replace the step's earlier one: of one step the last line holds.

        Where the disk is full, lines wait in memory for the next call.
        """
        self._unwritten += (json.dumps(row) + "\n").encode()
        with contextlib.suppress(OSError), self._metrics.open("ab", buffering=0) as f:
            while self._unwritten:  # a disk that is nearly full takes a part of it
                self._unwritten = self._unwritten[f.write(self._unwritten) :]

    def mend_metrics(self) -> None:
        """Cut off what a kill left of a last line, so that the next one begins a line."""
        if self._metrics.exists():
            whole = self._metrics.read_bytes().rpartition(b"\n")[0]
            os.truncate(self._metrics, len(whole) + 1 if whole else 0)

    def metrics(self, after: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Rows of the whole lines from byte `after` on, the last of each step; where they end."""
        if not self._metrics.exists():
            return [], after
        with self._metrics.open("rb") as f:
            f.seek(after)
            text = f.read()
        text = text[: text.rfind(b"\n") + 1]
        rows = (json.loads(line) for line in text.splitlines())
        return list({(row["stage"], row["step"]): row for row in rows}.values()), after + len(text)

    @property
    def _metrics(self) -> Path:
        return self.path / _METRICS


def runs_of_lake(root: str) -> Path:
    """The folder for runs beside a lake's tables. UsageError where that is no path."""
    parts = urlsplit(root)
    if parts.scheme not in ("", "file"):
        raise UsageError(
            f"--runs DIR is needed with a lake at {root}: a folder that all ranks can write to"
        )
    return Path(unquote(parts.path) if parts.scheme else root) / ".runs"


def folder_name(run_id: str) -> str:
    """A run's id as the name of its folder. Raises UsageError where it cannot be one."""
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"--run-id {run_id!r} becomes the name of a folder: use letters, digits, dots, dashes "
            "and underscores"
        )
    return run_id


def runs_in(folder: Path) -> Iterator[str]:
    """Names of the runs in a folder."""
    return (p.parent.name for p in sorted(folder.glob("*/run.json")))


def _write_whole(path: Path, fields: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(fields, indent=1), encoding="utf-8")
    temporary.replace(path)

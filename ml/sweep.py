"""Successive halving: many recipes begin, and at each rung the worse ones are left behind.

From Jamieson and Talwalkar, arXiv 1502.07943. Those that go on do so from their checkpoint, so
their numbers are those of a run that never paused.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml.recipe import Recipe, checked
from ml.training.runs import Source
from pipelines.errors import DataRefused, UsageError
from pipelines.files import write_whole

_FILE = "sweep.json"
_NO_NAME = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True)
class Result:
    """A run at a rung: loss over the validation rows; None where it is not finite, or failed."""

    run_id: str
    validation_loss: float | None


@dataclass(frozen=True)
class Sweep:
    """What is compared. `rungs`: shares of the last stage's steps, the last of which is 1;
    `keep`: the share of the runs that go on after each."""

    sweep_id: str
    recipes: Mapping[str, Recipe]  # by run id
    tables: Mapping[str, Source]
    processes: int
    rungs: tuple[float, ...]
    keep: float

    def write(self, runs: Path) -> None:
        """Write it to its folder in `runs`, where `read_sweep` finds it."""
        recipes = {run_id: json.loads(recipe.to_json()) for run_id, recipe in self.recipes.items()}
        tables = {kind: asdict(source) for kind, source in self.tables.items()}
        fields = {**vars(self), "recipes": recipes, "tables": tables}
        folder = runs / self.sweep_id
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(fields, indent=1).encode()
        write_whole(folder / _FILE, lambda out: out.write(text))


def read_sweep(runs: Path, sweep_id: str) -> Sweep:
    """The sweep of that id in a folder of runs. Raises UsageError where there is none."""
    path = runs / sweep_id / _FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(p.parent.name for p in runs.glob(f"*/{_FILE}"))
        hint = f"there are {', '.join(known[-10:])}" if known else "there is none"
        raise UsageError(f"no sweep {sweep_id} in {runs}: {hint}") from None
    except ValueError as e:
        raise DataRefused(f"{path} is damaged: {e}") from e
    recipes = {k: checked(v, f"recipe of {k} in {path}") for k, v in fields["recipes"].items()}
    tables = {kind: Source(**source) for kind, source in fields["tables"].items()}
    rungs = tuple(fields["rungs"])
    return Sweep(**{**fields, "recipes": recipes, "tables": tables, "rungs": rungs})


def going_on(results: Sequence[Result], keep: float) -> list[str]:
    """Run ids of the best, the best first: a share of them rounded up, none without a loss."""
    finite = [r for r in results if r.validation_loss is not None]
    best = sorted(finite, key=lambda r: (r.validation_loss, r.run_id))
    return [r.run_id for r in best[: math.ceil(keep * len(results))]]


def varied(recipe: Recipe, changes: Sequence[tuple[str, Sequence[Any]]]) -> list[Recipe]:
    """A recipe for each combination of values, each named after what differs.

    Keys are as in errors about recipes, with the name of a stage: `stages.instruct.learning_rate`.
    Raises UsageError for a key or value that a recipe may not have.
    """
    made = []
    for values in itertools.product(*(values for _, values in changes)):
        fields = recipe.model_dump(mode="json")
        name = [recipe.name]
        for (key, _), value in zip(changes, values, strict=True):
            _set(fields, key, value)
            name += [key.rpartition(".")[2], str(value)]
        fields["name"] = _NO_NAME.sub("-", "-".join(name).lower())
        made.append(checked(fields, f"recipe {recipe.name} varied"))
    return made


def values_of(text: str) -> tuple[str, list[Any]]:
    """`key=value,value` as a key and TOML values; what is no TOML is a text. Raises ValueError."""
    key, equals, values = text.partition("=")
    if not (key and equals and all(v.strip() for v in values.split(","))):
        raise ValueError(f"{text!r} is no KEY=VALUE,VALUE")
    return key, [_value(v.strip()) for v in values.split(",")]


def check_comparable(recipes: Iterable[Recipe]) -> None:
    """Raise UsageError where losses of the recipes cannot be compared, or names are the same.

    A loss is a mean over tokens, so the texts, and the tokenizer that cuts them, have to be the
    same; and folds leave no rows for validation.
    """
    first: Recipe | None = None
    names: set[str] = set()
    for recipe in recipes:
        if recipe.name in names:
            raise UsageError(f"two recipes are named {recipe.name}: a run's name is made of it")
        names.add(recipe.name)
        if recipe.data.split_by == "fold":
            raise UsageError(
                f"recipe {recipe.name} splits by fold, which leaves no validation rows to compare "
                'runs by: use split_by = "split"'
            )
        first = first or recipe
        for what, one, other in zip(_TEXTS, _texts(first), _texts(recipe), strict=True):
            if one != other:
                raise UsageError(
                    f"losses of {first.name} and {recipe.name} cannot be compared: {what} is "
                    f"{one} in one and {other} in the other"
                )
    if len(names) < 2:
        raise UsageError("a sweep compares two recipes at least: name more, or --vary a key")


_TEXTS = (
    "llm.path",
    "data.split_by",
    "data of the last stage",
    "its question_types",
    "its template",
    "its max_tokens",
)


def _texts(recipe: Recipe) -> tuple[Any, ...]:
    last = recipe.stages[-1]
    data = recipe.data.split_by
    types = sorted(set(last.question_types)) or "all"
    return recipe.model.llm.path, data, last.data, types, last.template, last.max_tokens


def _set(fields: dict[str, Any], key: str, value: Any) -> None:
    place: Any = fields
    *parents, last = key.split(".")
    for parent in parents:
        if isinstance(place, list):
            place = {stage["name"]: stage for stage in place}
        if not isinstance(place, dict) or parent not in place:
            known = ", ".join(place) if isinstance(place, dict) else "nothing"
            raise UsageError(f"{key}: a recipe has no {parent} there; there is {known}")
        place = place[parent]
    if not isinstance(place, dict):
        raise UsageError(f"{key}: {last} would be inside of a value")
    place[last] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text

"""Prototypes ranked: the runs of one put together, its scores with intervals, its cost."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
import pandas as pd

from ml.evaluation.bootstrap import interval
from ml.evaluation.summary import SCORE, Score, by_question, question_scores, with_score
from ml.recipe import Recipe


@dataclass(frozen=True)
class TrainedModel:
    """A run that was evaluated: its recipe and what it took; None where it was not recorded."""

    run_id: str
    recipe: Recipe
    parameters: int | None
    trained_parameters: int | None
    processes: int
    zero_stages: tuple[int, ...]
    steps: int | None
    seconds: float | None
    peak_bytes: int | None
    tables_in: Mapping[str, int]


@dataclass(frozen=True)
class Entry:
    """A prototype on the leaderboard, tested by one way to split on one version of the table.

    `scores` are of its runs put together: a question that several answered has their mean.
    `behind` is the first one's score minus this one's on the questions that both answered.
    """

    prototype: str
    name: str
    runs: tuple[TrainedModel, ...]
    split_by: str
    table_version: int
    splits: tuple[str, ...]
    questions: int
    scores: tuple[Score, ...]
    seed_deviation: float | None
    place: int = 0
    behind: Score | None = None

    def find(self, control: str, metric: str) -> Score | None:
        """The score of all questions."""
        named = (s for s in self.scores if s.group == "all")
        return next((s for s in named if (s.control, s.metric) == (control, metric)), None)

    @property
    def score(self) -> Score:
        found = self.find("image", SCORE)
        assert found is not None, "only what was asked with images is entered"
        return found

    @property
    def seeds(self) -> int:
        return len({run.recipe.seed for run in self.runs})

    @property
    def tested_on(self) -> tuple[str, int, tuple[str, ...]]:
        """What entries that are ranked together share: folds differ in how hard they are."""
        return self.split_by, self.table_version, self.splits

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval of `behind` is clear of 0."""
        return self.behind is not None and (
            (self.behind.low or 0) > 0 or (self.behind.high or 0) < 0
        )


def prototype_of(recipe: Recipe) -> str:
    """Hash of what makes a prototype: the recipe but for its seed and fold, and how it is called.

    Runs that differ in nothing else are repetitions of one experiment.
    """
    fields = recipe.model_dump(mode="json", exclude={"name", "description", "seed"})
    del fields["data"]["fold"]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


def name_of(recipes: Sequence[Recipe]) -> str:
    """What their names have in common, "rad-lora" of rad-lora-0 and rad-lora-1."""
    names = sorted({recipe.name for recipe in recipes})
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda pair: pair[0] == pair[1], zip(names[0], names[-1], strict=False))
    return re.sub(r"[-_.]\d*$", "", "".join(a for a, _ in same)) or names[0]


def entry_of(
    prototype: str,
    runs: Sequence[TrainedModel],
    answers: pd.DataFrame,
    *,
    split_by: str,
    table_version: int,
) -> Entry:
    """The entry of a prototype whose runs gave these answers, without its place.

    `answers` has the columns run_id, split and those of `question_scores`, for at least the
    control image.
    """
    shown = with_score(answers[answers["control"] == "image"])
    return Entry(
        prototype=prototype,
        name=name_of([run.recipe for run in runs]),
        runs=tuple(sorted(runs, key=lambda run: run.run_id)),
        split_by=split_by,
        table_version=table_version,
        splits=tuple(sorted(answers["split"].unique())),
        questions=int(answers["example_id"].nunique()),
        scores=tuple(question_scores(answers)),
        seed_deviation=_seed_deviation(shown, runs),
    )


def _seed_deviation(shown: pd.DataFrame, runs: Sequence[TrainedModel]) -> float | None:
    """Of the score, on the questions that all seeds answered: folds differ in how hard they are."""
    seed = shown["run_id"].map({run.run_id: run.recipe.seed for run in runs})
    of_all = shown.pivot_table(index="example_id", columns=seed, values=SCORE).dropna()
    if of_all.empty or of_all.shape[1] < 2:
        return None
    return float(of_all.mean().std(ddof=1))


def ranked(entries: Sequence[tuple[Entry, pd.DataFrame]]) -> list[list[Entry]]:
    """Entries with their answers, `placed` among those tested on the same; the largest group
    first.

    A recipe that was changed and kept its name is another prototype, and is called otherwise.
    """
    of_name = defaultdict(set)
    for entry, _ in entries:
        of_name[entry.name].add(entry.prototype)
    of_same = defaultdict(list)
    for entry, answers in entries:
        name = entry.name if len(of_name[entry.name]) == 1 else _own_name(entry)
        of_same[entry.tested_on].append((replace(entry, name=name), answers))
    groups = map(placed, of_same.values())
    return sorted(groups, key=lambda g: (-len(g), -g[0].questions, g[0].tested_on))


def placed(entries: Sequence[tuple[Entry, pd.DataFrame]]) -> list[Entry]:
    """Entries with their answers, tested on the same splits of the same table, the best first.

    Each further one is compared with the first on the questions that both answered.
    """
    order = sorted(entries, key=lambda pair: (-pair[0].score.score, pair[0].name))
    first = _by_question(order[0][1]) if order else pd.DataFrame()
    return [
        replace(entry, place=place, behind=_behind(first, answers) if place > 1 else None)
        for place, (entry, answers) in enumerate(order, 1)
    ]


def _own_name(entry: Entry) -> str:
    return f"{entry.name} {entry.prototype[:4]}"


def _by_question(answers: pd.DataFrame) -> pd.DataFrame:
    """Score and image_id by example_id, with the image shown."""
    rows = with_score(answers[answers["control"] == "image"])
    images = rows.groupby("example_id")["image_id"].first()
    return by_question(rows, SCORE).rename(columns={"image": SCORE}).assign(image_id=images)


def _behind(first: pd.DataFrame, answers: pd.DataFrame) -> Score | None:
    both = first.assign(other=_by_question(answers)[SCORE]).dropna()
    if both.empty:
        return None
    differences = (both[SCORE] - both["other"]).to_numpy(float)
    ends = interval(differences, both["image_id"].to_numpy(np.int64)) or (None, None)
    mean = float(differences.mean())
    return Score("first minus this", SCORE, "all", "all", len(both), mean, *ends)

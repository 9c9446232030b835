"""What the leaderboard's page tells, as small as the page itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ml.evaluation.summary import SCORE, Score
from ml.leaderboard.ranking import Entry
from pipelines.page import number


@dataclass(frozen=True)
class Curve:
    """Loss of a stage: `series` are a prototype's name and its mean loss in each of the bins of
    steps that end at `steps`; None where it was not as long, or not finite."""

    stage: str
    steps: Sequence[int]
    series: Sequence[tuple[str, Sequence[float | None]]]


@dataclass(frozen=True)
class Said:
    """What was answered under a control, and its score, 0 to 1."""

    control: str
    text: str
    score: float


@dataclass(frozen=True)
class Shown:
    """A question with its image as JPEG (None: it is gone), the truth, and what was answered."""

    jpeg: bytes | None
    question: str
    truth: str
    said: Sequence[Said]
    confidence: float | None


@dataclass(frozen=True)
class Board:
    """Everything on the page. `groups` are entries that may be compared with each other: tested on
    the same splits of the same version, the best first; samples are of the first of the first."""

    groups: Sequence[Sequence[Entry]]
    curves: Sequence[Curve]
    samples: Sequence[Shown]
    worst: Sequence[Shown]
    versions: Mapping[str, int]
    made: bool

    @property
    def best(self) -> Entry:
        return self.groups[0][0]


def percent(share: float) -> str:
    """61.2, of 0.612."""
    return f"{100 * share:.1f}"


def with_interval(score: Score) -> str:
    """As "61.2 [55.0, 67.1]"."""
    if score.low is None or score.high is None:
        return percent(score.score)
    return f"{percent(score.score)} [{percent(score.low)}, {percent(score.high)}]"


def headline(board: Board) -> str:
    first, *others = board.groups[0]
    told = f"{first.name} scores {percent(first.score.score)}"
    return f"{told}, {others[0].name} {percent(others[0].score.score)}" if others else told


def summary(board: Board) -> str:
    """Whether the first one is told apart from the others, and whether it looks at the image."""
    entries, best = board.groups[0], board.best
    text = (
        f"{len(entries)} prototype{'' if len(entries) == 1 else 's'}, tested on "
        f"{questions_words(best)}. The score, in per cent, is the "
        "mean of strict accuracy on closed questions and of F1 on open ones"
    )
    close = [e.name for e in entries[1:] if e.behind and not e.is_told_apart]
    if close:
        named = " and ".join(close) if len(close) < 3 else f"{len(close)} others"
        text += f"; by these questions {named} cannot be told apart from the first"
    for control, words in (("swapped", "an image of another case"), ("no_image", "no image")):
        seen = best.find(f"image minus {control}", SCORE)
        if seen is not None:
            text += f". With its image {best.name} is at {100 * seen.score:+.1f} points against "
            text += words + ("" if (seen.low or 0) > 0 else ", which may be chance")
            break
    return text + "."


def questions_words(entry: Entry) -> str:
    """How many questions it was tested on, and which."""
    plural = "" if entry.questions == 1 else "s"
    return f"{number(entry.questions)} question{plural} {split_words(entry)}"


def split_words(entry: Entry) -> str:
    """How its test rows were split off."""
    if entry.split_by == "fold":
        folds = len(entry.splits)
        return f"of {folds} fold{'' if folds == 1 else 's'} by image"
    if entry.split_by == "published_split":
        return "of the published test split"
    return "of the test split by image"

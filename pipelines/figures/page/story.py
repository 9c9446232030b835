"""What the page tells: numbers, names and thumbnails, as small as the page itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.page import number


@dataclass(frozen=True)
class Stage:
    """A stage of the funnel: what it leaves, and what it drops by reason.

    `unit` is what is counted. Dropped ones count under one reason each, so that what a stage
    leaves and what it drops are together what the stage before left.
    """

    name: str
    left: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    unit: str = "examples"


@dataclass(frozen=True)
class Took:
    """Seconds of a step of the run, and the images that it went through where it did."""

    step: str
    seconds: float
    images: int | None = None


@dataclass(frozen=True)
class Picture:
    """A thumbnail as JPEG, None where it must not or cannot be drawn; texts below it.

    `why` stands in the place of a thumbnail that is not there.
    """

    jpeg: bytes | None
    caption: str = ""
    why: str = ""


@dataclass(frozen=True)
class Sheet:
    """Some of the `count` pictures that have something in common: a modality or a reason."""

    name: str
    count: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Copy:
    """An example that was found to be a copy of another one, and by what.

    `found_by` are pairs of words, as ("image", "2 bits"); empty: by way of another copy.
    """

    picture: Picture
    found_by: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Copies:
    """A group of copies: the kept example, None where none is, and some of `others`."""

    kept: Picture | None
    others: int
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class Bins:
    """A histogram: `counts[i]` values from `edges[i]` to below `edges[i + 1]`.

    Where there is no edge after the last bin, it has everything above. `middle` is the median.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    middle: float | None


@dataclass(frozen=True)
class Split:
    """A split's share: groups, image-caption examples for training, and questions."""

    name: str
    groups: int
    examples: int
    questions: int


@dataclass(frozen=True)
class Leak:
    """Of the `test` rows of a way to split, how many have a relative in its training part.

    A relative is of the same article or patient, or a copy.
    """

    way: str
    test: int
    leaked: int


@dataclass(frozen=True)
class Story:
    """Everything on the page. Empty parts say on the page that there is nothing to show.

    `funnel` begins with what was read, its last stage is what a training step gets. `versions` are
    the tables from which all this was counted.
    """

    funnel: tuple[Stage, ...]
    took: tuple[Took, ...]
    modalities: tuple[Sheet, ...]
    rejected: tuple[Sheet, ...]
    copies: tuple[Copies, ...]
    pairs: Mapping[str, int]
    caption_words: Bins
    longest_sides: Bins
    splits: tuple[Split, ...]
    leaks: tuple[Leak, ...]
    questions: int
    sources: tuple[str, ...]
    versions: Mapping[str, int]
    made: bool

    @property
    def read(self) -> int:
        return self.funnel[0].left if self.funnel else 0

    @property
    def examples(self) -> int:
        return self.funnel[-1].left if self.funnel else 0


def reason_words(reason: str) -> str:
    """As "too many pixels" for too_many_pixels."""
    return reason.replace("_", " ")


def percent(part: int, whole: int) -> str:
    """As "12.3 %"; shares below a tenth of a per cent say so, and nothing of nothing is empty."""
    if not whole:
        return ""
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<\u202f0.1\u00a0%"
    return f"{share:.1f}\u00a0%"


def headline(story: Story) -> str:
    if not story.read:
        return "No figures yet"
    if not story.examples:
        return f"No example to train from in {number(story.read)} figures"
    return f"{number(story.examples)} examples to train from"


def summary(story: Story) -> str:
    """What came in, what goes out, and what took most away, in plain sentences."""
    if not story.read:
        return "Ingest a delivery with jobs/ingest_figures.py, then run jobs/prepare_captions.py."
    text = f"{number(story.read)} figures were read"
    if story.sources:
        text += f" from {', '.join(story.sources[:4])}"
        if more := len(story.sources) - 4:
            text += f" and {more} more" if more > 0 else ""
    text += f"; {number(story.examples)} examples are left to train from"
    if story.questions:
        text += f", beside {number(story.questions)} questions"
    drops = [(n, r) for stage in story.funnel for r, n in stage.dropped.items() if n]
    if drops:
        n, reason = max(drops)
        text += (
            f". The most frequent reason to leave one out is “{reason_words(reason)}”: {number(n)}"
        )
    return text + "."

"""The text of each panel where a caption marks them, as in "(A) Axial CT. (B) Coronal CT."."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

MOST_PANELS = 20
# One letter, a list or a range, in brackets: (A), (a, b), (a-c), (A and B), [b], a); or a letter
# with a colon or a full stop where a sentence may begin: "A: Axial CT. B: Coronal CT."
_LETTERS = r"[A-Ta-t](?:\s?(?:,|-|\u2013|—|&|/|and|to|,\s?and)\s?[A-Ta-t]){0,19}"
_BRACKETED = re.compile(rf"[(\[]\s?({_LETTERS})\s?[)\]]")
_BARE = re.compile(rf"(?:^|(?<=[.;:,]\s))({_LETTERS})(?:\)|:|\.(?=\s))(?=\s|[A-Z0-9])")
_RANGE = re.compile(r"([a-t])\s?(?:-|\u2013|—|to)\s?([a-t])")
_LETTER = re.compile(r"(?<![a-z])[a-t](?![a-z])")
_SENTENCE = re.compile(r"^.*[.;!?]\s", re.DOTALL)  # up to the last sentence that is whole
_SENTENCE_ENDS = (".", ":", ";", "!", "?")
# What stands behind a mark that follows its text.
_GOES_ON = re.compile(r"\s*(?:[,;.]|and\b|&)")
_JOINS = re.compile(r"^(?:[,;.:]|and\b|&|\s)+|(?:[,;:]|\band|&|\s)+$", re.IGNORECASE)


@dataclass(frozen=True)
class _Mark:
    start: int
    end: int
    panels: tuple[int, ...]


def panel_captions(caption: str) -> list[str]:
    """The text of each panel, from panel a on, with what the caption says of all panels at once.

    Empty where the caption has fewer than two marks or more than MOST_PANELS panels, where letters
    leave one out, or where it is not clear which text is whose. A letter that comes again after its
    turn ("as in (A)") is text. Marks may stand before their text or behind it ("Axial (A) and
    coronal (B) CT").
    """
    for pattern in (_BRACKETED, _BARE):
        marks = _in_turn(caption, pattern)
        if marks:
            return _texts(caption, marks)
    return []


def panel_captions_of(caption: Column) -> Column:
    """`panel_captions` of a column in Arrow batches, empty for NULL."""

    @F.pandas_udf("array<string>")  # type: ignore[call-overload]
    def in_batches(captions: pd.Series) -> pd.Series:
        found = [panel_captions(c) if isinstance(c, str) else [] for c in captions]
        return pd.Series(found, dtype=object)

    return in_batches(caption)


def _in_turn(caption: str, pattern: re.Pattern[str]) -> list[_Mark]:
    """The marks that go a, b, c without a gap; none where a letter is marked before its turn."""
    marks: list[_Mark] = []
    following = 0
    for found in pattern.finditer(caption):
        panels = _panels(found[1])
        if panels[0] == following and panels == tuple(range(panels[0], panels[-1] + 1)):
            marks.append(_Mark(found.start(), found.end(), panels))
            following = panels[-1] + 1
        elif panels[-1] >= following:
            return []
    return marks if len(marks) > 1 and following <= MOST_PANELS else []


def _panels(letters: str) -> tuple[int, ...]:
    """Numbers from 0 of the panels that "a-c", "a, b" or "A and B" name, as they come."""
    text = letters.lower()
    spread = _RANGE.sub(
        lambda m: " ".join(chr(c) for c in range(ord(m[1]), max(ord(m[1]), ord(m[2])) + 1)), text
    )
    return tuple(ord(c) - ord("a") for c in _LETTER.findall(spread))


def _texts(caption: str, marks: list[_Mark]) -> list[str]:
    head = caption[: marks[0].start].strip()
    starts = [m.end for m in marks]
    ends = [*(m.start for m in marks[1:]), len(caption)]
    between = [caption[s:e] for s, e in zip(starts, ends, strict=True)]
    if head and not head.endswith(_SENTENCE_ENDS) and _GOES_ON.match(between[0]):
        if not all(map(_GOES_ON.match, between[:-1])):
            return []
        sentences = _SENTENCE.search(head)
        cut = sentences.end() if sentences else 0
        head, own, tail = head[:cut], [head[cut:], *between[:-1]], between[-1].rstrip()
    else:
        own, tail = between, ""
    own = [_bare(text) for text in own]
    if not all(own):
        return []
    joint = "" if not tail or tail[0] in " ,;.:" else " "
    said = [f"{head.strip()} {text}{joint}{tail}".strip() for text in own]
    return [text for text, mark in zip(said, marks, strict=True) for _ in mark.panels]


def _bare(text: str) -> str:
    return _JOINS.sub("", text).strip()

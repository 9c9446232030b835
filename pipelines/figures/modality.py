"""How an image was made, by its DICOM tag, its publisher's word, or the words of its caption.

The words are data: `modality_words.toml` beside this module has them, and which goes first.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from schemas.figures import MODALITIES

_BLANK = r"[ \u2013-]{0,3}"
_BETWEEN = "\u0001"


@dataclass(frozen=True)
class Words:
    """`patterns` maps a modality to one regular expression (Java's) over lower-case text, in order
    of precedence; `tags` maps a DICOM tag to its modality; `ignored` is taken out of text first.
    """

    patterns: Mapping[str, str]
    tags: Mapping[str, str]
    ignored: str

    @property
    def earliest(self) -> str:
        """A pattern for the whole text that captures its earliest word, in its modality's group."""
        groups = "|".join(f"({pattern})" for pattern in self.patterns.values())
        return rf"(?s)^.*?{_whole_words(groups)}.*$"


def words_of(declared: Mapping[str, Any]) -> Words:
    """The words of a file such as `modality_words.toml`.

    Raises UsageError for a modality that is none of schemas.figures.MODALITIES, and for a pattern
    that captures or that is no regular expression.
    """
    unknown = sorted({*declared["words"], *declared["tags"]} - set(MODALITIES))
    if unknown:
        raise UsageError(f"no modality: {', '.join(unknown)}; there are {', '.join(MODALITIES)}")
    patterns = {m: _any_of(words) for m, words in declared["words"].items()}
    tags = {tag: m for m, tags in declared["tags"].items() for tag in tags}
    return Words(patterns, tags, _whole_words(_any_of(declared["ignored"])))


@cache
def built_in_words() -> Words:
    """Those of `modality_words.toml`."""
    text = files(__package__).joinpath("modality_words.toml").read_text(encoding="utf-8")
    return words_of(tomllib.loads(text))


def modality_of(text: Column, said: Column, format_: Column) -> Column:
    """Struct (modality, evidence) of an image.

    `text` is its caption; `said` a DICOM tag where `format_` is "dicom", else the publisher's word;
    each may be NULL. What is said goes before the caption. Evidence is "tag: CT",
    "publisher: X-Ray" or "caption: chest radiograph". Both fields are NULL where nothing tells.
    """
    words = built_in_words()
    trimmed = F.trim(said)
    named = F.when(format_ == "dicom", F.lit("tag: ")).otherwise(F.lit("publisher: "))
    stated = F.coalesce(_by_tag(trimmed, words), modality_in_text(trimmed, words)["modality"])
    by_caption = modality_in_text(text, words)

    def choose(of_caption: Column) -> Column:
        evidence = F.when(stated.isNotNull(), F.concat(named, trimmed)).otherwise(
            F.concat(F.lit("caption: "), of_caption["word"])
        )
        modality = F.coalesce(stated, of_caption["modality"])
        return F.struct(modality.alias("modality"), evidence.alias("evidence"))

    return _bound(by_caption, choose)


def modality_in_text(text: Column, words: Words | None = None) -> Column:
    """Struct (modality, word): by the earliest word in `text` that names a modality; NULL fields
    where there is none.
    """
    words = words or built_in_words()
    names = tuple(words.patterns)
    told = F.regexp_replace(F.lower(text), words.ignored, " ")
    captured = _BETWEEN.join(f"${i + 1}" for i in range(len(names)))
    # One pass: what is left is a field a modality, all empty but one; or the text without any.
    fields = F.split(F.regexp_replace(told, words.earliest, captured), _BETWEEN)

    def pick(groups: Column) -> Column:
        found = F.size(groups) == len(names)
        of = {m: F.get(groups, F.lit(i)) for i, m in enumerate(names)}
        modality = F.coalesce(*(F.when(found & (w != ""), F.lit(m)) for m, w in of.items()))
        word = F.when(found, F.trim(F.array_join(groups, "")))
        return F.struct(modality.alias("modality"), word.alias("word"))

    return _bound(fields, pick)


def modality_of_questions(questions: DataFrame) -> DataFrame:
    """Rows (figure_id, modality, modality_evidence): what questions about an image say of it.

    `questions` has figure_id, question and answer. A question says something where its answer
    names a modality, or where it does itself and its answer is not "no" ("Is this a CT?"); one that
    says "not" ("What type of imaging is this not?") says nothing. The
    modality that most questions name is taken; on a tie the one that comes first in MODALITIES.
    Figures of which nothing is said are left out.
    """
    answer, question = F.lower(F.trim("answer")), F.lower("question")
    is_denied = F.rlike(answer, F.lit(r"^(?:no|not|none|neither|false)\b"))
    is_opposite = F.rlike(question, F.lit(r"\b(?:not|isn't|other than|instead of|rather than)\b"))
    is_about = F.col("figure_id").isNotNull() & ~F.coalesce(is_opposite, F.lit(False))
    said = questions.where(is_about).select(
        "figure_id",
        modality_in_text(F.col("answer")).alias("of_answer"),
        F.when(~F.coalesce(is_denied, F.lit(False)), modality_in_text(F.col("question"))).alias(
            "of_question"
        ),
    )
    modality = F.coalesce("of_answer.modality", "of_question.modality")
    word = F.coalesce("of_answer.word", "of_question.word")
    votes = (
        said.select("figure_id", modality.alias("modality"), word.alias("word"))
        .where(F.col("modality").isNotNull())
        .groupBy("figure_id", "modality")
        .agg(F.count(F.lit(1)).alias("votes"), F.min("word").alias("word"))
    )
    rank = F.array_position(F.array(*map(F.lit, MODALITIES)), F.col("modality"))
    best = F.max_by(F.struct("modality", "word"), F.struct("votes", -rank))
    return (
        votes.groupBy("figure_id")
        .agg(best.alias("best"))
        .select(
            "figure_id",
            F.col("best.modality").alias("modality"),
            F.concat(F.lit("questions: "), F.col("best.word")).alias("modality_evidence"),
        )
    )


def _by_tag(said: Column, words: Words) -> Column:
    tags = F.create_map(*(F.lit(x) for pair in words.tags.items() for x in pair))
    return F.element_at(tags, F.upper(said))


def _bound(value: Column, use: Callable[[Column], Column]) -> Column:
    """`use(value)` with `value` computed once, however often it is used."""
    return F.transform(F.array(value), use)[0]


def _any_of(words: Sequence[str]) -> str:
    pattern = "|".join(words).replace(" ", _BLANK)
    try:
        groups = re.compile(pattern).groups
    except re.error as e:
        raise UsageError(f"no regular expression: {e} in {' | '.join(words)!r}") from e
    if groups:
        raise UsageError("a word may not capture: write (?:...) for (...)")
    return pattern


def _whole_words(pattern: str) -> str:
    return rf"(?<![\p{{L}}\p{{N}}])(?:{pattern})(?!\w)"

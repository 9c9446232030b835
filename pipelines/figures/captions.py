"""Captions as delivered become captions to train from, or reasons why not."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.figures.modality import modality_of
from schemas import FIGURE_CAPTIONS
from udfs.captions import (
    STEPS,
    cleaned,
    is_file_name,
    is_placeholder,
    is_too_short,
    single_blanks,
)
from udfs.language import language_of
from udfs.panel_captions import panel_captions_of
from udfs.plain_text import STEPS as PLAIN_STEPS
from udfs.plain_text import plain_text

_CHECKS: dict[str, Callable[[Column], Column]] = {
    "placeholder": is_placeholder,
    "file_name": is_file_name,
    "too_short": is_too_short,
}


def captions_of(figures: DataFrame) -> DataFrame:
    """Rows of silver.figure_captions for `figures`.

    `figures` has figure_id, revision, caption, modality (a DICOM tag or the publisher's word, NULL
    where none is given) and format. Every figure gets a row. Reasons: `no_caption` (NULL or blank),
    `placeholder` (also what is nothing but a label or boilerplate), `file_name`, `too_short`,
    `not_english`, `unsettled` (cleaning it over and over always finds more). The modality is that
    of the cleaned text, also where the text is rejected.
    """
    plain = figures.select(
        "figure_id",
        "revision",
        "modality",
        "format",
        F.col("caption").alias("delivered"),
        plain_text(F.col("caption")).alias("plain"),
    )
    texts = plain.withColumn("text", single_blanks(F.col("plain.text")))
    once = _step_by_step(texts)
    settled = _settled(once)
    read = settled.withColumns(
        {
            "language": language_of(F.col("settled")),
            "panels": panel_captions_of(F.col("settled")),
            "named": modality_of(F.col("settled"), F.col("modality"), F.col("format")),
        }
    )
    reasons = read.withColumn("reasons", _reasons())
    is_kept = F.size("reasons") == 0
    rows = reasons.select(
        "figure_id",
        "revision",
        F.when(is_kept, F.col("settled")).alias("caption"),
        "language",
        _mended().alias("mended"),
        F.when(is_kept, F.col("panels"))
        .otherwise(F.array().cast("array<string>"))
        .alias("panel_captions"),
        F.col("named.modality").alias("modality"),
        F.col("named.evidence").alias("modality_evidence"),
        "reasons",
    )
    return FIGURE_CAPTIONS.conform(rows)


def _step_by_step(texts: DataFrame) -> DataFrame:
    """`after_0` is the text before any of STEPS, `after_1` the text after the first, and so on."""
    rows = texts.withColumn("after_0", F.col("text"))
    for i, step in enumerate(STEPS.values()):
        rows = rows.withColumn(f"after_{i + 1}", step(F.col(f"after_{i}")))
    return rows


def _settled(once: DataFrame) -> DataFrame:
    """`settled` is what cleaning leaves as it is, unless `unsettled`.

    What one step takes out may leave something for one before it. Whatever the first round has
    left alone is done; two more rounds are for the rest, and a last one tells whether they did.
    """

    def again(before: str, after: str) -> Column:
        return F.when(F.col(before) != F.col(after), cleaned(F.col(after))).otherwise(F.col(after))

    rows = once.withColumn("first", F.col(f"after_{len(STEPS)}"))
    rows = rows.withColumn("second", again("text", "first"))
    rows = rows.withColumn("settled", again("first", "second"))
    return rows.withColumn("unsettled", F.col("settled") != again("second", "settled"))


def _mended() -> Column:
    """Names of what changed the text, sorted."""
    changed = {name: F.col(f"plain.{name}") for name in PLAIN_STEPS}
    changed["white_space"] = F.col("plain.text") != F.col("text")
    for i, name in enumerate(STEPS):
        changed[name] = F.col(f"after_{i}") != F.col(f"after_{i + 1}")
    names = (F.when(has_changed, F.lit(name)) for name, has_changed in changed.items())
    return F.array_sort(F.array_compact(F.array(*names)))


def _reasons() -> Column:
    text = F.col("settled")
    is_blank = F.coalesce(F.trim(F.col("text")) == "", F.lit(True))
    found = {name: ~is_blank & check(text) for name, check in _CHECKS.items()}
    # One reason is enough for a text that is none: "N/A" is not also too short.
    found["placeholder"] &= ~found["file_name"]
    found["too_short"] &= ~found["placeholder"] & ~found["file_name"]
    is_text = ~found["placeholder"] & ~found["file_name"]
    found["not_english"] = ~is_blank & is_text & (F.col("language") != "en")
    found["too_short"] &= ~F.coalesce(found["not_english"], F.lit(False))
    found["unsettled"] = ~is_blank & F.col("unsettled")
    found["no_caption"] = is_blank
    names = (F.when(condition, F.lit(name)) for name, condition in found.items())
    return F.array_sort(F.array_compact(F.array(*names)))

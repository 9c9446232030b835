"""Questions about images as delivered become questions to train and to test with."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas import FIGURE_QUESTIONS
from udfs.language import language_of
from udfs.plain_text import plain_text
from udfs.question_texts import (
    cleaned_answer,
    cleaned_text,
    is_closed,
    language_code,
    one_spelling,
)


def questions_of(questions: DataFrame) -> DataFrame:
    """Rows of silver.figure_questions for bronze.questions: each cleaned, or with reasons why not.

    The language is the delivered one, else what the library finds, else "en". Reasons:
    `no_question`, `no_answer`, `no_figure`, and `repeated` for a question that has the figure,
    question and answer of one with a lower id in the same source, whatever the case of their
    letters.
    """
    plain = questions.select(
        "question_id",
        "figure_id",
        "source",
        "published_split",
        plain_text(F.col("question"))["text"].alias("question_text"),
        plain_text(F.col("answer"))["text"].alias("answer_text"),
        "answer_type",
        one_spelling(F.col("question_type")).alias("question_type"),
        language_code(F.col("language")).alias("given_language"),
    )
    cleaned = plain.withColumns(
        {
            "question": cleaned_text(F.col("question_text")),
            "answer": cleaned_answer(F.col("answer_text")),
        }
    )
    found = F.when(F.col("given_language").isNull(), language_of(F.col("question")))
    rows = cleaned.withColumns(
        {
            "closed": is_closed(F.col("answer_type"), F.col("answer")),
            "language": F.coalesce("given_language", found, F.lit("en")),
            "repeats": _is_repeated(),
        }
    )
    is_given = {n: F.col(c).isNotNull() for n, c in _NEEDED.items()}
    reasons = [F.when(~given, F.lit(name)) for name, given in is_given.items()]
    judged = rows.select(
        *("question_id", "figure_id", "question", "answer", "closed", "question_type", "language"),
        *("published_split", "source"),
        F.array_sort(
            F.array_compact(F.array(*reasons, F.when(F.col("repeats"), F.lit("repeated"))))
        ).alias("reasons"),
    )
    return FIGURE_QUESTIONS.conform(judged)


_NEEDED = {"no_question": "question", "no_answer": "answer", "no_figure": "figure_id"}


def _is_repeated() -> Column:
    """Whether a row is not the first of its triple. Rows that lack a part of it repeat nothing.

    By the hash of the triple, so that no two texts are sorted; 128 bits do not collide.
    """
    whole = F.col("figure_id").isNotNull() & F.col("question").isNotNull()
    whole &= F.col("answer").isNotNull()
    triple = F.struct(
        "source", "figure_id", F.lower("question").alias("q"), F.lower("answer").alias("a")
    )
    # A row that lacks a part is alone: its own id is in its key.
    key = F.when(whole, F.to_json(triple)).otherwise(F.col("question_id").cast("string"))
    window = Window.partitionBy(F.md5(key)).orderBy("question_id")
    return F.row_number().over(window) > 1

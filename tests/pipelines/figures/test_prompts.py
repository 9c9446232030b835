"""Prompt templates: the built-in ones work, and what is wrong is named with what is nearest."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.figures.prompts import columns_of
from pipelines.figures.templates import built_in_templates, template, templates_of
from schemas.frames import frame_of


def test_built_in_templates_fill_columns(spark: SparkSession) -> None:
    rows = frame_of(
        spark,
        [("A {caption} mass", "Is it {big}?", "yes")],
        "caption string, question string, answer string",
    )
    templates = built_in_templates()
    assert len(templates) >= 4
    for (kind, _), named in templates.items():
        prompt, answer = rows.select(*columns_of(named)).head() or ("", "")
        fields = {"caption": "A {caption} mass", "question": "Is it {big}?", "answer": "yes"}
        assert named.texts(fields) == (prompt, answer)
        assert ("yes" if kind == "vqa" else "A {caption} mass") in answer
        assert ("Is it {big}?" in prompt) == (kind == "vqa")
        assert "{question}" not in prompt + answer


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("captions.a = 1", "should be a table"),
        ("[captions.a]\nprompt = '{captoin}'\nanswer = '{caption}'", "did you mean caption"),
        ("[vqa.a]\nprompt = '{caption}'\nanswer = '{answer}'", "unknown placeholder 'caption'"),
        ("[vqa.a]\nprompt = '{}'\nanswer = '{answer}'", "unknown placeholder ''"),
        ("[vqa.a]\nprompt = '{question'\nanswer = '{answer}'", "brace that is one is doubled"),
        ("[vqa.a]\nprompt = '{question!r}'\nanswer = '{answer}'", "a name and nothing else"),
        ("[vqa.a]\nprompt = '{question.x}'\nanswer = '{answer}'", "did you mean question"),
        ("[vqa.a]\nprompt = '{question}'\nanswer = 'yes'", "nothing is to be learnt"),
        ("[vqa.a]\nprompt = '{question}'", "answer is missing"),
        ("[vqa.a]\nprompt = 3\nanswer = '{answer}'", "prompt is missing, or no text"),
        ("[vqa.a]\npromt = ''\nanswer = '{answer}'", "did you mean prompt"),
        ("[vga.a]\nprompt = ''\nanswer = '{answer}'", "did you mean vqa"),
        ("[vqa.a", "no TOML"),
    ],
)
def test_what_is_refused(toml: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        templates_of(toml)


def test_a_template_by_name() -> None:
    templates = built_in_templates()
    assert template(templates, "vqa", "short").name == "short"
    with pytest.raises(UsageError, match="did you mean short"):
        template(templates, "vqa", "shrt")
    with pytest.raises(UsageError, match="unknown template 'describe'"):
        template(templates, "vqa", "describe")

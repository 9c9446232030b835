"""Prompt templates as columns."""

from __future__ import annotations

from string import Formatter

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.figures.templates import Template


def columns_of(template: Template) -> tuple[Column, Column]:
    """Prompt and answer as columns, each made of the columns that its placeholders name."""
    return filled(template.prompt), filled(template.answer)


def filled(text: str) -> Column:
    """A column: `text` with each placeholder replaced by the column of that name.

    NULL where such a column is. What the columns hold is text, braces too.
    """
    parts: list[Column] = []
    for literal, name, _, _ in Formatter().parse(text):
        parts += [F.lit(literal)] if literal else []
        parts += [F.col(name)] if name is not None else []
    return F.concat(*parts) if parts else F.lit("")

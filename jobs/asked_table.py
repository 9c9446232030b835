"""A table of questions about images, whoever made it: its columns found, its rows told apart."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, IntegralType, StringType, StructType

from jobs.evaluated_rows import is_gone
from jobs.lake import TABLE_NAME
from jobs.run import Run
from pipelines.errors import DataRefused, UsageError
from pipelines.figures.prompts import filled
from pipelines.figures.templates import Template


@dataclass(frozen=True)
class AskedTable:
    """A version of a table. `rows` are as `answered_or_refused` takes them, `count` of them."""

    name: str
    version: int
    rows: DataFrame
    count: int


def asked_of(run: Run, version: int | None, asked_as: Template) -> AskedTable:
    """The table that --table names, with the columns that --key, --image and --question name.

    Raises UsageError where the table, the version or a column is missing or of a type that cannot
    be, and DataRefused where rows have no key, or share one.
    """
    args = run.args
    named = TABLE_NAME.fullmatch(args.table) is not None
    name = args.table if named else run.lake.path_of(args.table)
    found, version = run.lake.read_other(args.table, version)
    key = _column(found, "key", args.key)
    is_key = isinstance(found.select(key).schema[0].dataType, StringType | IntegralType)
    if not is_key:
        raise UsageError(
            f"--key {args.key}: must be text or a whole number, not {_type(found, key)}"
        )
    question = _column(found, "question", args.question)
    if not isinstance(found.select(question).schema[0].dataType, StringType):
        raise UsageError(f"--question {args.question}: must be text, not {_type(found, question)}")
    rows = found.select(
        key.cast("string").alias("key"),
        question.alias("question"),
        _bytes(found, args.image).alias("image"),
    )
    try:
        count = _count(rows, args.key)
    except Exception as e:
        if not is_gone(e):
            raise
        raise UsageError(
            f"version {version} of {name} is in its log, and its files are gone: name another with "
            "--table-version"
        ) from e
    return AskedTable(name, version, _prepared(rows, asked_as), count)


def _column(rows: DataFrame, argument: str, name: str) -> Column:
    """The column of that very name. UsageError, which names the nearest, where there is none."""
    if name not in rows.columns:
        near = get_close_matches(name, rows.columns, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(rows.columns)}"
        raise UsageError(f"--{argument} {name}: the table has no such column; {hint}")
    return F.col("`" + name.replace("`", "``") + "`")


def _type(rows: DataFrame, column: Column) -> str:
    return rows.select(column).schema[0].dataType.simpleString()


def _bytes(rows: DataFrame, name: str) -> Column:
    """Bytes of the image. A path in a struct is not followed: a table may name any file."""
    column = _column(rows, "image", name)
    kind = rows.select(column).schema[0].dataType
    if isinstance(kind, BinaryType):
        return column
    inside = kind["bytes"] if isinstance(kind, StructType) and "bytes" in kind.names else None
    if inside is not None and isinstance(inside.dataType, BinaryType):
        return column["bytes"]
    raise UsageError(
        f"--image {name}: must be binary, or a struct with a binary field bytes, not "
        f"{kind.simpleString()}"
    )


def _count(rows: DataFrame, key: str) -> int:
    """How many rows. DataRefused where their keys do not tell them apart."""
    shared = F.col("key").isNotNull() & (F.col("count") > 1)
    keys = rows.groupBy("key").count()
    (found,) = keys.agg(
        F.coalesce(F.sum("count"), F.lit(0)).alias("rows"),
        F.coalesce(F.sum(F.when(F.col("key").isNull(), F.col("count"))), F.lit(0)).alias("none"),
        F.coalesce(F.sum(F.when(shared, F.col("count"))), F.lit(0)).alias("shared"),
        F.min(F.when(shared, F.col("key"))).alias("example"),
    ).collect()
    if found["none"]:
        raise DataRefused(f"{found['none']:,} rows have no {key}: name another column with --key")
    if found["shared"]:
        raise DataRefused(
            f"{found['shared']:,} rows share their {key} with another, such as {found['example']}: "
            "name a column with --key that tells them apart"
        )
    return int(found["rows"])


def _prepared(rows: DataFrame, asked_as: Template) -> DataFrame:
    has_question = F.coalesce(F.col("question").rlike(r"\S"), F.lit(False))
    reason = F.when(~has_question, "no_question").when(F.col("image").isNull(), "no_image")
    return rows.withColumns({"prompt": filled(asked_as.prompt), "reason": reason})

"""One declaration per table, from which creating, checking and documenting derive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

BIGINT, BOOLEAN, DATE, DOUBLE = LongType(), BooleanType(), DateType(), DoubleType()
INT, STRING, TIMESTAMP = IntegerType(), StringType(), TimestampType()


class SchemaMismatch(ValueError):
    """Columns or types differ from the table's declaration."""


@dataclass(frozen=True)
class Column:
    """A column: `unit` is written after the comment where there is one."""

    name: str
    type: DataType
    comment: str
    unit: str | None = None
    nullable: bool = True

    @property
    def description(self) -> str:
        return f"{self.comment} [{self.unit}]" if self.unit else self.comment


@dataclass(frozen=True)
class Expectation:
    """A Great Expectations expectation by its type name and arguments, as data.

    `level` is "error" where a violation must stop the pipeline, "warn" where it should be seen;
    `description` says in words what the type and the arguments do not.
    """

    type: str
    kwargs: Mapping[str, Any]
    level: str = "error"
    description: str | None = None


def between(
    column: str, low: float | None, high: float | None, *, mostly: float = 1.0, level: str = "error"
) -> Expectation:
    """Values lie from `low` to `high`, both included, in a share of at least `mostly`; NULL may."""
    kwargs: dict[str, Any] = {"column": column, "min_value": low, "max_value": high}
    if mostly < 1.0:
        kwargs["mostly"] = mostly
    return Expectation("expect_column_values_to_be_between", kwargs, level)


@dataclass(frozen=True)
class Table:
    """A Delta table of the lake.

    `name` is "layer.table" and lies at LAKE/layer/table. `checks` maps the name of a CHECK
    constraint to its SQL; a CHECK that yields NULL fails, so those on nullable columns say
    "x IS NULL OR ...". `properties` are Delta's, set when the table is created. `time` is the
    column by which a row belongs to an interval. Images do not become smaller, and training reads
    those of tables that are not `compressed` where they lie in a file.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    cluster_by: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    expectations: tuple[Expectation, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None
    compressed: bool = True

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: a column is declared twice")
        named = {*self.key, *self.cluster_by, *([self.time] if self.time else [])}
        if unknown := sorted(named - set(names)):
            raise ValueError(f"{self.name}: key, clustering or time names no column: {unknown}")

    @property
    def relative_path(self) -> str:
        """Where the table lies below the lake's root."""
        return self.name.replace(".", "/")

    @cached_property
    def struct(self) -> StructType:
        """The columns as a Spark schema, comments included."""
        return StructType(
            [
                StructField(c.name, c.type, c.nullable, {"comment": c.description})
                for c in self.columns
            ]
        )

    def mismatches(self, actual: StructType) -> list[str]:
        """What differs between `actual` and the declaration, one line each; order does not matter.

        Nullability is not compared: Delta checks it row by row when it writes.
        """
        have = {f.name: f.dataType.simpleString() for f in actual.fields}
        want = {c.name: c.type.simpleString() for c in self.columns}
        lines = [f"{n}: missing, should be {t}" for n, t in want.items() if n not in have]
        lines += [f"{n}: not declared, is {t}" for n, t in have.items() if n not in want]
        lines += [
            f"{n}: is {have[n]}, should be {t}"
            for n, t in want.items()
            if n in have and have[n] != t
        ]
        return lines

    def lacking(self, actual: StructType) -> tuple[Column, ...]:
        """The columns that `actual` lacks, where that is all that differs and each may be NULL.

        A table that an earlier version of the project made lacks what was declared since.
        """
        missing = tuple(c for c in self.columns if c.name not in actual.fieldNames())
        is_all = len(self.mismatches(actual)) == len(missing)
        return missing if is_all and all(c.nullable for c in missing) else ()

    def conform(self, rows: DataFrame) -> DataFrame:
        """`rows` with the declared columns in the declared order.

        Raises SchemaMismatch naming each column that is missing, extra or of another type.
        """
        lines = self.mismatches(rows.schema)
        if lines:
            raise SchemaMismatch(f"rows for {self.name} do not fit: " + "; ".join(lines))
        return rows.select(*(c.name for c in self.columns))

    def to_markdown(self) -> str:
        """The table's entry in the data dictionary."""
        lines = [f"## {self.name}", "", self.comment, ""]
        lines += [f"- key: {', '.join(f'`{k}`' for k in self.key)}"]
        if self.cluster_by:
            lines += [f"- clustered by: {', '.join(f'`{k}`' for k in self.cluster_by)}"]
        lines += [f"- `{k}`: {v}" for k, v in self.properties.items()]
        lines += [
            "",
            "| column | type | null | meaning | unit |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{c.name}` | {c.type.simpleString()} | {'yes' if c.nullable else 'no'} "
            f"| {c.comment} | {c.unit or ''} |"
            for c in self.columns
        ]
        if self.checks:
            lines += ["", "Constraints:", ""]
            lines += [f"- `{name}`: `{sql}`" for name, sql in self.checks.items()]
        if self.expectations:
            lines += ["", "Expectations:", ""]
            for e in self.expectations:
                arguments = ", ".join(f"{k}={v!r}" for k, v in e.kwargs.items())
                lines.append(f"- `{e.type}({arguments})` ({e.level})")
        return "\n".join(lines) + "\n"

"""What a delivery brings compared with what the lake holds: new, changed, unchanged, by unit.

What a killed run wrote is told by the deliveries that its commits name: its rows are counted
against the table as it was before, and written where they are not there now.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.run import Run, log
from pipelines.figures.delivered.rows import revision
from schemas import FIGURE_DELIVERIES, FIGURES
from schemas.frames import frame_of

NEW, CHANGED, UNCHANGED = "new", "changed", "unchanged"


@dataclass(frozen=True)
class Counts:
    """What became of a delivery's rows."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    without_image: int = 0
    questions: int = 0
    image_bytes: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: Mapping[str, str] = field(default_factory=dict)

    @property
    def read(self) -> int:
        return self.new + self.changed + self.unchanged

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.new + other.new,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.without_image + other.without_image,
            self.questions + other.questions,
            self.image_bytes + other.image_bytes,
            self.problems + other.problems,
            {**other.examples, **self.examples},
        )

    def as_rows(self) -> dict[str, int]:
        return {
            "read": self.read,
            NEW: self.new,
            CHANGED: self.changed,
            UNCHANGED: self.unchanged,
            "without_image": self.without_image,
            "questions": self.questions,
        }

    def example(self, problem: str) -> str:
        return f", such as {self.examples[problem]}" if problem in self.examples else ""


@dataclass(frozen=True)
class Batch:
    """Units that are written together, with their figures and questions."""

    source: str
    format: str
    ids: Mapping[str, str]  # unit to delivery_id
    rows: DataFrame
    questions: DataFrame | None
    captions_apart: bool  # a row without a caption keeps the one that it has


def compared(run: Run, batch: Batch) -> DataFrame:
    """Rows with `revision`, `status` (against the lake before this delivery) and `act` (now)."""
    rows = batch.rows
    newest, before = run.lake.version(FIGURES), _version_before(run, batch)
    for at, version in {"now": newest, **({} if before == newest else {"then": before})}.items():
        held = held_of(run, batch.source, version).select(
            "figure_id",
            F.col("sha256").alias(f"{at}_sha256"),
            F.col("caption").alias(f"{at}_caption"),
            F.col("revision").alias(f"{at}_revision"),
        )
        rows = rows.join(held, on="figure_id", how="left")
    if batch.captions_apart:
        rows = rows.withColumn("caption", F.coalesce("caption", "now_caption"))

    def state(at: str) -> Column:
        new = revision(F.coalesce(F.col("sha256"), F.col(f"{at}_sha256")))
        old = F.col(f"{at}_revision")
        return F.when(old.isNull(), NEW).when(old == new, UNCHANGED).otherwise(CHANGED)

    return rows.withColumns(
        {
            "status": state("now" if before == newest else "then"),
            "act": state("now"),
            "revision": revision(F.coalesce("sha256", "now_sha256")),
        }
    ).drop(*(f"{at}_{c}" for at in ("now", "then") for c in ("sha256", "caption", "revision")))


def held_of(run: Run, source: str, version: int | None) -> DataFrame:
    """The source's figures in a version of the table, none where there is no version."""
    if version is None:
        return frame_of(run.spark, [], FIGURES.struct)
    return run.lake.read(FIGURES, version).where(F.col("source") == source)


def _version_before(run: Run, batch: Batch) -> int | None:
    """The table's version before the first commit of these deliveries, the newest for none.

    Only commits of a killed run say so; those of a delivery that is done count no more.
    """
    newest = run.lake.version(FIGURES)
    mine = {*batch.ids.values()}
    if newest is None:
        return None
    done = set()
    if run.lake.exists(FIGURE_DELIVERIES):
        known = run.lake.read(FIGURE_DELIVERIES).where(F.col("source") == batch.source)
        known = known.where(F.col("delivery_id").isin(list(mine)))
        done = {r["delivery_id"] for r in known.select("delivery_id").collect()}
    held = held_of(run, batch.source, newest)
    if held.where(F.col("delivery_id").isin(list(mine - done))).isEmpty():
        return newest
    log(f"{run.job}: a killed run wrote a part of this delivery: completing it")
    versions = [
        version
        for version, note in run.lake.notes(FIGURES)
        if (said := _parsed(note)).get("source") == batch.source
        and {*said.get("deliveries", ())} & (mine - done)
    ]
    if not versions:  # the log is kept for a month
        return newest
    first = min(versions)
    return first - 1 if first else None


def _parsed(note: str) -> dict[str, Any]:
    try:
        said = json.loads(note)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def counts_of(rows: DataFrame, batch: Batch) -> dict[str, Counts]:
    """Counts by unit. Raises RuntimeError where they do not add up."""
    found = {unit: Counts() for unit in batch.ids}
    groups = rows.groupBy("unit", "status", "problem").agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.col("sha256").isNull()).alias("without_image"),
        F.coalesce(F.sum("image_bytes"), F.lit(0)).alias("image_bytes"),
        F.min("record").alias("example"),
    )
    for r in groups.collect():
        problem = r["problem"]
        found[r["unit"]] += Counts(
            **{r["status"]: r["rows"]},
            without_image=r["without_image"],
            image_bytes=r["image_bytes"],
            problems=Counter({problem: r["rows"]} if problem else {}),
            examples={problem: r["example"]} if problem else {},
        )
    if batch.questions is not None:
        for unit, count in batch.questions.groupBy("unit").count().collect():
            found[unit] += Counts(questions=count)
    read: dict[str, int] = dict(batch.rows.groupBy("unit").count().collect())
    for unit, of in found.items():
        if of.read != read.get(unit, 0):
            raise RuntimeError(
                f"rows do not add up for {unit}: {read.get(unit, 0):,} were read, but "
                f"{of.new:,} are new, {of.changed:,} changed and {of.unchanged:,} unchanged"
            )
    return found

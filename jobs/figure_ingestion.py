"""Figures that were read into the tables, in commits that a kill or a rival may fall between.

A row is written where its revision is not the one in the table. Both writes are merges by
figure_id within the source: two runs of one delivery leave one row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.figure_comparison import CHANGED, NEW, Batch, Counts, compared, counts_of, held_of
from jobs.run import Run
from jobs.session import settings
from pipelines.errors import DataRefused
from pipelines.figures.delivered.rows import (
    delivery_ids,
    figure_id,
    question_hash,
    with_figure_ids,
    with_question_ids,
    with_records_told_apart,
)
from pipelines.figures.formats.delivery import Delivered
from pipelines.figures.images import READ_CONF
from schemas import FIGURE_DELIVERIES, FIGURES, QUESTIONS
from schemas.frames import frame_of

_CONF = {
    **READ_CONF,
    # Rows that are written before anything looks at their size: by default 100, which may be
    # gigabytes where rows are images.
    "parquet.page.size.row.check.min": "1",
    "parquet.block.size.row.check.min": "1",
    # Images are small files: many to a task.
    "spark.sql.files.openCostInBytes": str(256 << 10),
}


@dataclass(frozen=True)
class Outcome:
    """Counts by unit that was written, and the units that were there before."""

    written: Mapping[str, Counts]
    same: Sequence[str]


def ingest(run: Run, delivered: Delivered, source: str, format_: str, *, again: bool) -> Outcome:
    """Write figures and questions of all units that are not in the lake yet.

    Raises DataRefused where two records of a delivery have one id.
    """
    written: dict[str, Counts] = {}
    same: list[str] = []
    with settings(run.spark, _CONF):
        with run.step("read and hash"):
            rows = with_figure_ids(with_records_told_apart(delivered.rows), source)
            rows = rows.persist(StorageLevel.MEMORY_AND_DISK)
            questions = None
            if delivered.questions is not None:
                told = with_records_told_apart(delivered.questions)
                questions = with_question_ids(told, source).persist(StorageLevel.MEMORY_AND_DISK)
            ids = _ids(delivered, rows, questions, f"{format_} {source}")
            _check_unique(rows, "figure_id")
            if questions is not None:
                _check_unique(questions, "question_id")
        for units in delivered.batches():
            todo, there = _not_done(run, source, {u: ids[u] for u in units}, again=again)
            same += there
            if not todo:
                continue
            mine = F.col("unit").isin(list(todo))
            batch = Batch(
                source,
                format_,
                todo,
                rows.where(mine),
                None if questions is None else questions.where(mine),
                delivered.captions_apart,
            )
            written |= _write(run, delivered, batch)
        rows.unpersist()
        if questions is not None:
            questions.unpersist()
    return Outcome(written, same)


def _ids(
    delivered: Delivered, rows: DataFrame, questions: DataFrame | None, salt: str
) -> dict[str, str]:
    """The delivery id of each unit, also of one without rows."""
    hashes = rows.select("unit", "row_hash")
    if questions is not None:
        hashes = hashes.unionByName(questions.select("unit", "row_hash"))
    empty = hashlib.sha256(salt.encode()).hexdigest()
    return {**dict.fromkeys(delivered.units, empty), **delivery_ids(hashes, salt)}


def _check_unique(rows: DataFrame, key: str) -> None:
    twice = rows.groupBy(key).agg(F.count(F.lit(1)).alias("n"), F.min("record"), F.max("record"))
    for _, n, first, last in twice.where("n > 1").limit(1).collect():
        raise DataRefused(
            f"{n} records have one {key}: {first!r} and {last!r}, so that they cannot be told "
            "apart -- nothing was ingested"
        )


def _not_done(
    run: Run, source: str, ids: Mapping[str, str], *, again: bool
) -> tuple[dict[str, str], list[str]]:
    """Units to write, and units that are in the lake; those learn the paths they were seen at."""
    if not run.lake.exists(FIGURE_DELIVERIES):
        return dict(ids), []
    known = run.read(FIGURE_DELIVERIES).where(F.col("source") == source)
    known = known.where(F.col("delivery_id").isin(list(ids.values())))
    paths = {
        row["delivery_id"]: row["paths"] for row in known.select("delivery_id", "paths").collect()
    }
    todo = {u: i for u, i in ids.items() if again or i not in paths}
    for delivery_id in {i for u, i in ids.items() if u not in todo}:
        seen = sorted({*paths[delivery_id], *(u for u, i in ids.items() if i == delivery_id)})
        if seen != paths[delivery_id]:
            learnt = F.array(*map(F.lit, seen))
            row = known.where(F.col("delivery_id") == delivery_id).withColumn("paths", learnt)
            run.lake.replace(FIGURE_DELIVERIES, row, _sql_of(source, [delivery_id]))
    return todo, [u for u in ids if u not in todo]


def _sql_of(source: str, ids: Sequence[str]) -> str:
    # Digests, and a name in which `ingest_figures` allows no quote: nothing to escape.
    quoted = ", ".join(f"'{i}'" for i in ids)
    return f"source = '{source}' AND delivery_id IN ({quoted})"


def _write(run: Run, delivered: Delivered, batch: Batch) -> dict[str, Counts]:
    note = json.dumps({"source": batch.source, "deliveries": sorted({*batch.ids.values()})})
    with run.step("compare with lake"):
        rows = compared(run, batch).persist(StorageLevel.MEMORY_AND_DISK)
        counts = counts_of(rows, batch)
    with run.step("write bronze.figures"):
        acts = {r["act"] for r in rows.select("act").distinct().collect()}
        for act in (CHANGED, NEW):  # new ones last: nothing is read of them until they are there
            if act in acts:
                todo = rows.where(F.col("act") == act)
                whole = _as_figures(delivered.with_bytes(todo, list(batch.ids)), batch)
                within = f"old.source = '{batch.source}' AND old.figure_id = new.figure_id"
                if act == NEW:
                    run.lake.insert_missing(FIGURES, whole, within, note)
                else:
                    run.lake.update_matched(FIGURES, whole, within, _UPDATES, note)
        _check_written(run, rows, batch)
        _forget_waiting(run, batch)
    with run.step("write bronze.questions"):
        _write_questions(run, batch, note)
    with run.step("mark as done"):
        _mark_as_done(run, delivered, batch, counts)
    rows.unpersist()
    return counts


# A row that comes without its image keeps the one that it has; it keeps when it first came.
_KEPT = ("image", "sha256", "member")
_UPDATES = {
    c.name: f"coalesce(new.{c.name}, old.{c.name})" if c.name in _KEPT else f"new.{c.name}"
    for c in FIGURES.columns
    if c.name != "delivered_at"
}


def _as_figures(rows: DataFrame, batch: Batch) -> DataFrame:
    own = {
        "format": F.lit(batch.format),
        "delivery_id": _delivery_id(batch),
        "delivered_at": F.current_timestamp(),
    }
    return rows.withColumns(own).select(*(c.name for c in FIGURES.columns))


def _delivery_id(batch: Batch) -> Column:
    ids = F.create_map(*(F.lit(x) for pair in batch.ids.items() for x in pair))
    return F.element_at(ids, F.col("unit"))


def _check_written(run: Run, rows: DataFrame, batch: Batch) -> None:
    held = held_of(run, batch.source, run.lake.version(FIGURES)).select("figure_id", "revision")
    lacking = rows.join(held, on=["figure_id", "revision"], how="left_anti").count()
    if lacking:
        raise RuntimeError(
            f"{lacking:,} rows are not in {FIGURES.name} as they were written: another run of "
            f"{batch.source} changed them at the same time; run this again"
        )


def _forget_waiting(run: Run, batch: Batch) -> None:
    """Remove the rows as which captions waited that now have an image under another record."""
    if "waited_as" not in batch.rows.columns:
        return
    came = batch.rows.where("waited_as IS NOT NULL")
    came = came.select(figure_id(batch.source, "waited_as").alias("figure_id"))
    waiting = held_of(run, batch.source, run.lake.version(FIGURES)).where("sha256 IS NULL")
    done = waiting.join(came, "figure_id", "left_semi").select("source", "figure_id")
    if not done.isEmpty():
        run.lake.remove(FIGURES, done)


def _write_questions(run: Run, batch: Batch, note: str) -> None:
    if batch.questions is None:
        return
    columns = [c.name for c in QUESTIONS.columns]
    rows = batch.questions.withColumn("delivery_id", _delivery_id(batch))
    if run.lake.exists(QUESTIONS):
        held = run.lake.read(QUESTIONS).where(F.col("source") == batch.source)
        held = held.select("question_id", question_hash().alias("row_hash"))
        rows = rows.join(held, on=["question_id", "row_hash"], how="left_anti")
    if not rows.isEmpty():
        within = f"old.source = '{batch.source}' AND old.question_id = new.question_id"
        run.lake.merge(QUESTIONS, rows.select(*columns), within, note)


def _mark_as_done(
    run: Run, delivered: Delivered, batch: Batch, counts: Mapping[str, Counts]
) -> None:
    rows = []
    for delivery_id in sorted({*batch.ids.values()}):
        units = [u for u, i in batch.ids.items() if i == delivery_id]
        of = sum((counts[u] for u in units), Counts())
        size = sum(delivered.units[u] for u in units)
        rows.append(
            (
                delivery_id,
                batch.source,
                batch.format,
                sorted(units),
                size + (of.image_bytes if delivered.images_apart else 0),
                of.read,
                of.new,
                of.changed,
                of.unchanged,
                of.without_image,
                of.questions,
                run.run_id,
            )
        )
    done = frame_of(run.spark, rows, FIGURE_DELIVERIES.struct)
    run.lake.replace(FIGURE_DELIVERIES, done, _sql_of(batch.source, [r[0] for r in rows]))

"""One batch of delivered files into the tables, in commits that a kill or a rival may fall between.

Appends never conflict, so different files land at the same time. Two runs may append the same
file's rows at once: each then looks at what the tables hold, after its own appends, and whoever
comes last leaves one copy. Rows of a file carry the numbers from 0 on, each once: that is how
copies and losses are told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lake import Lake
from jobs.run import Run, log
from jobs.trip_rules import Rules
from pipelines.errors import DataRefused
from pipelines.trips.clean import Outcome, classify, outcomes, rejected_of, trips_of
from pipelines.trips.layouts import Recognised
from pipelines.trips.rows import read_rows
from pipelines.trips.sources import SourceFile, has_changed
from schemas import DELIVERIES, TRIPS, TRIPS_RAW, TRIPS_REJECTED, Table
from schemas.frames import frame_of


@dataclass(frozen=True)
class Delivery:
    """A file that is to be ingested, named by its content, with every path of this run."""

    file_id: str
    file: SourceFile
    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.file.path.rsplit("/", 1)[-1]


def ingest(run: Run, batch: Sequence[Delivery], rules: Mapping[str, Rules]) -> dict[str, Outcome]:
    """Write the rows of the files and mark them as done. What became of each, by `file_id`.

    `rules` are by `file_id`. Raises DataRefused for a file that changed in the meantime.
    """
    lake = run.lake
    ids = [d.file_id for d in batch]
    with run.step("write bronze.trips_raw"):
        _put(lake, TRIPS_RAW, _raw_rows(run, batch), ids)
        _check_unchanged(run, batch)
    with run.step("classify"):
        classified = _classified(run, batch, rules)
        found = outcomes(classified)
        if any(of.read != of.rows for of in found.values()):
            log(f"{run.job}: another run ingests the same file: keeping one copy of its rows")
            _keep_one_copy(lake, ids)
            classified.unpersist()
            classified = _classified(run, batch, rules)
            found = outcomes(classified)
        found = {i: found.get(i, Outcome()) for i in ids}
        _check_numbers(found)
        _check_unique(lake, classified, ids, sum(of.read for of in found.values()))
    with run.step("write silver.trips_rejected"):
        _put(lake, TRIPS_REJECTED, rejected_of(classified), ids)
    with run.step("write silver.trips"):
        _put(lake, TRIPS, trips_of(classified), ids)
    with run.step("check and mark as done"):
        _settle(run, classified, found)
        _mark_as_done(run, batch, rules, found)
    classified.unpersist()
    return found


def counts_in_tables(lake: Lake, ids: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Rows in bronze.trips_raw, silver.trips and silver.trips_rejected, by `file_id`."""
    tables = (TRIPS_RAW, TRIPS, TRIPS_REJECTED)
    parts = [
        lake.read(t).where(F.col("file_id").isin(list(ids))).select(F.lit(i).alias("at"), "file_id")
        for i, t in enumerate(tables)
        if lake.exists(t)
    ]
    counts = {i: [0] * len(tables) for i in ids}
    if parts:
        rows = reduce(DataFrame.unionAll, parts).groupBy("at", "file_id").count()
        for at, file_id, count in rows.collect():
            counts[file_id][at] = count
    return {i: (raw, trips, rejected) for i, (raw, trips, rejected) in counts.items()}


def _raw_rows(run: Run, batch: Sequence[Delivery]) -> DataFrame:
    parallelism = run.spark.sparkContext.defaultParallelism
    return reduce(
        DataFrame.unionAll,
        (
            read_rows(run.spark, d.file, parallelism).select(
                "fields",
                F.lit(d.file_id).alias("file_id"),
                "source_row",
                F.lit(d.file.recognised.layout.name).alias("layout"),
            )
            for d in batch
        ),
    )


def _check_unchanged(run: Run, batch: Sequence[Delivery]) -> None:
    """A file that grew after it was hashed must not stay under the hash of what it was."""
    changed = [d for d in batch if has_changed(run.spark, d.file)]
    if changed:
        ids = [d.file_id for d in changed]
        run.lake.replace(TRIPS_RAW, run.lake.read(TRIPS_RAW).limit(0), sql_of_files(ids))
        names = ", ".join(d.file.path for d in changed)
        raise DataRefused(f"{names} changed while it was read: run again when it is complete")


def _classified(run: Run, batch: Sequence[Delivery], rules: Mapping[str, Rules]) -> DataFrame:
    stored = run.lake.read(TRIPS_RAW, run.lake.version(TRIPS_RAW))
    groups: dict[tuple[Recognised, Rules], list[str]] = {}
    for d in batch:
        groups.setdefault((d.file.recognised, rules[d.file_id]), []).append(d.file_id)
    return reduce(
        DataFrame.unionAll,
        (
            classify(
                stored.where(F.col("file_id").isin(ids)),
                recognised,
                box=rule.box,
                max_duration_s=rule.max_duration_s,
            )
            for (recognised, rule), ids in groups.items()
        ),
    ).persist(StorageLevel.MEMORY_AND_DISK)


def _put(lake: Lake, table: Table, rows: DataFrame, ids: Sequence[str]) -> None:
    """Append the files' rows, or replace what an unfinished run left of them."""
    mine = F.col("file_id").isin(list(ids))
    if lake.exists(table) and not lake.read(table).where(mine).isEmpty():
        lake.replace(table, rows, sql_of_files(ids))
    else:
        lake.append(table, rows)


def sql_of_files(ids: Sequence[str]) -> str:
    """The rows of these files, as SQL."""
    quoted = ", ".join(f"'{i}'" for i in ids)  # hexadecimal digests: nothing to escape
    return f"file_id IN ({quoted})"


def _check_numbers(found: Mapping[str, Outcome]) -> None:
    for file_id, of in found.items():
        if of.read != of.rows:
            raise RuntimeError(
                f"rows of file {file_id} are numbered up to {of.rows - 1:,} but there are "
                f"{of.read:,} of them in {TRIPS_RAW.name}; nothing was written to silver"
            )


def _check_unique(lake: Lake, classified: DataFrame, ids: Sequence[str], rows: int) -> None:
    """Trip ids are hashes: two rows with one id stop the run before silver is touched."""
    distinct = classified.select("trip_id").distinct().count()
    clash = ""
    if distinct != rows:
        clash = f"{rows - distinct} of its {rows} rows share a trip_id with another"
    elif lake.exists(TRIPS):
        others = lake.read(TRIPS).where(~F.col("file_id").isin(list(ids)))
        both = others.select("trip_id").join(classified.select("trip_id"), "trip_id", "leftsemi")
        if not both.isEmpty():
            clash = "a row has the trip_id of a trip that is already in silver.trips"
    if clash:
        raise RuntimeError(f"duplicate trip_id: {clash}; nothing was written to silver")


def _keep_one_copy(lake: Lake, ids: Sequence[str]) -> None:
    raw = lake.read(TRIPS_RAW).where(F.col("file_id").isin(list(ids)))
    lake.replace(TRIPS_RAW, raw.dropDuplicates(["file_id", "source_row"]), sql_of_files(ids))


def _settle(run: Run, classified: DataFrame, found: Mapping[str, Outcome]) -> None:
    """Check, from the tables, that read = accepted + rejected for each file.

    Other numbers mean that another run ingested the same file at the same time and both appended:
    the rows are replaced by one copy.
    """
    ids = sorted(found)
    expected = {i: (of.read, of.accepted, of.rejected) for i, of in found.items()}
    held = counts_in_tables(run.lake, ids)
    if held != expected:
        log(f"{run.job}: another run ingested the same file: keeping one copy of its rows")
        _keep_one_copy(run.lake, ids)
        run.lake.replace(TRIPS_REJECTED, rejected_of(classified), sql_of_files(ids))
        run.lake.replace(TRIPS, trips_of(classified), sql_of_files(ids))
        held = counts_in_tables(run.lake, ids)
    for i, (read, accepted, rejected) in held.items():
        if held[i] != expected[i] or read != accepted + rejected:
            raise RuntimeError(
                f"rows do not add up for file {i}: the tables hold {read:,} read, {accepted:,} "
                f"accepted, {rejected:,} rejected, and should hold {expected[i]}"
            )


def _mark_as_done(
    run: Run, batch: Sequence[Delivery], rules: Mapping[str, Rules], found: Mapping[str, Outcome]
) -> None:
    rows = [
        (
            d.file_id,
            list(d.paths),
            d.file.bytes,
            d.file.recognised.layout.name,
            rules[d.file_id].as_json(),
            found[d.file_id].read,
            found[d.file_id].accepted,
            found[d.file_id].rejected,
            run.run_id,
        )
        for d in batch
    ]
    done = frame_of(run.spark, rows, DELIVERIES.struct)
    run.lake.merge(DELIVERIES, done)

"""Delivered trip files become bronze.trips_raw, silver.trips and silver.trips_rejected.

Commit order: raw rows, rejected rows, trips, and last the delivery that marks the files as done.
Killed anywhere, the next run replaces what was left of unfinished files, so the tables end as an
undisturbed run would leave them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import reduce
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arguments import box, duration
from jobs.run import Run, log, parser, run_job
from pipelines.errors import DataRefused
from pipelines.trips.clean import Box, classify, rejected_of, trips_of
from pipelines.trips.layouts import builtin_layouts, checked_timezone, read_layout
from pipelines.trips.sources import (
    FileRefused,
    SourceFile,
    content_id,
    find_files,
    inspect,
    read_rows,
)
from schemas import DELIVERIES, TRIPS, TRIPS_RAW, TRIPS_REJECTED, Table

JOB = "ingest_trips"

# Files that are committed together: enough to spread the cost of four commits over many small
# files, little enough that a kill loses minutes.
_BATCH_BYTES = 1 << 30
_BATCH_FILES = 200


@dataclass(frozen=True)
class Delivery:
    """A file that is to be ingested, named by its content, with every path of this run."""

    file_id: str
    file: SourceFile
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """What became of one file's rows."""

    read: int
    accepted: int
    rejected: int
    shifted: int = 0


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Ingest trip files (CSV, CSV.gz, Parquet) into bronze and silver tables.",
        "  spark-submit jobs/ingest_trips.py yellow_tripdata_2016-0*.csv.gz --lake lake\n"
        "  reads each file once; rows that are no trips go to silver.trips_rejected with every\n"
        "  reason; a file that is already in the lake changes nothing",
    )
    made.add_argument(
        "files", nargs="+", metavar="FILE", help="file, folder or glob; a path or any Hadoop URL"
    )
    made.add_argument(
        "--mapping",
        action="append",
        default=[],
        metavar="FILE.toml",
        help="layout of another source, tried before the built-in ones; may be repeated",
    )
    made.add_argument(
        "--timezone", metavar="ZONE", help="time zone of the files' clocks, over the layout's own"
    )
    made.add_argument(
        "--box",
        type=box,
        default=Box(40, -75, 42, -72),
        metavar="MIN_LAT,MIN_LON,MAX_LAT,MAX_LON",
        help="where a trip must begin and end, borders included (default 40,-75,42,-72)",
    )
    made.add_argument(
        "--max-duration",
        type=duration,
        default=timedelta(hours=24),
        metavar="TIME",
        help="a trip as long as this or longer is rejected (default 24h)",
    )
    made.add_argument(
        "--again",
        action="store_true",
        help="ingest files that are already there again, under this run's rules",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    args = run.args
    if args.timezone:
        checked_timezone(args.timezone)
    layouts = [x.in_timezone(args.timezone) for x in map(read_layout, args.mapping)]
    layouts += [x.in_timezone(args.timezone) for x in builtin_layouts()]
    with run.step("check headers"):
        files = _inspect_all(run, find_files(run.spark, args.files), layouts)
    with run.step("hash content"):
        deliveries = _by_content(run, files)
    with run.step("compare with lake"):
        todo, same = _not_done(run, deliveries)
    counts: dict[str, Counts] = {}
    reasons: dict[str, int] = {}
    unparsable: dict[str, int] = {}
    done = 0
    for batch in _batches(todo):
        log(f"{JOB}: files {done + 1} to {done + len(batch)} of {len(todo)}")
        counts |= _ingest(run, batch, reasons, unparsable)
        done += len(batch)
    run.rows.update(
        read=sum(c.read for c in counts.values()),
        accepted=sum(c.accepted for c in counts.values()),
        rejected=sum(c.rejected for c in counts.values()),
    )
    run.wrote(TRIPS_RAW, TRIPS_REJECTED, TRIPS, DELIVERIES)
    _print_summary(run, todo, same, counts, reasons, unparsable)
    return {
        "files_ingested": len(todo),
        "files_unchanged": len(same),
        "rejected_by_reason": reasons,
        "unparsable_optional": unparsable,
        "times_shifted_out_of_spring_gap": sum(c.shifted for c in counts.values()),
    }


def _inspect_all(run: Run, paths: Sequence[str], layouts: Sequence[Any]) -> list[SourceFile]:
    files, refused = [], []
    for path in paths:
        try:
            files.append(inspect(run.spark, path, layouts))
        except FileRefused as e:
            refused.append(f"{path} {e}")
    _refuse(refused)
    return files


def _by_content(run: Run, files: Sequence[SourceFile]) -> list[Delivery]:
    found: dict[str, Delivery] = {}
    refused = []
    for n, file in enumerate(files, 1):
        log(f"{JOB}: {n} of {len(files)}: {file.path} ({file.bytes / 1e6:.1f} MB)")
        try:
            file_id = content_id(run.spark, file)
        except FileRefused as e:
            refused.append(f"{file.path} {e}")
            continue
        twin = found.get(file_id)
        paths = (*twin.paths, file.path) if twin else (file.path,)
        found[file_id] = Delivery(file_id, twin.file if twin else file, paths)
    _refuse(refused)
    return list(found.values())


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise DataRefused("; ".join(lines) + " -- nothing was ingested")


def _rules(run: Run, file: SourceFile) -> str:
    layout = file.recognised.layout
    rules = {
        "box": list(asdict(run.args.box).values()),
        "max_duration_s": run.args.max_duration.total_seconds(),
        "timezone": layout.timezone,
    }
    return json.dumps(rules, sort_keys=True)


def _not_done(run: Run, deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """Files to ingest, and files whose rows are in the tables as their delivery says."""
    if not run.lake.exists(DELIVERIES):
        return list(deliveries), []
    ids = [d.file_id for d in deliveries]
    rows = run.read(DELIVERIES).where(F.col("file_id").isin(ids))
    known = {row["file_id"]: row.asDict() for row in rows.collect()}
    if not known:
        return list(deliveries), []
    held = _counts_in_tables(run, sorted(known))
    todo, same = [], []
    for d in deliveries:
        row = known.get(d.file_id)
        if row:
            new_paths = sorted({*row["paths"], *d.paths})
            d = replace(d, paths=tuple(new_paths))
        if row is None or run.args.again:
            todo.append(d)
            continue
        if held[d.file_id] != Counts(row["rows_read"], row["rows_accepted"], row["rows_rejected"]):
            log(f"{JOB}: {d.file.path} does not have the rows it should have: ingesting it again")
            todo.append(d)
            continue
        if row["rules"] != _rules(run, d.file):
            log(
                f"{JOB}: {d.file.path} was ingested under other rules ({row['rules']}) and stays "
                "so; --again ingests it under these"
            )
        if d.paths != tuple(sorted(row["paths"])):
            changed = rows.where(F.col("file_id") == d.file_id).withColumn(
                "paths", F.array(*map(F.lit, d.paths))
            )
            run.lake.merge(DELIVERIES, changed)
        same.append(d)
    return todo, same


def _batches(todo: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    batch: list[Delivery] = []
    for d in todo:
        full = len(batch) == _BATCH_FILES or sum(x.file.bytes for x in batch) >= _BATCH_BYTES
        if full and batch:
            yield batch
            batch = []
        batch.append(d)
    if batch:
        yield batch


def _ingest(
    run: Run, batch: Sequence[Delivery], reasons: dict[str, int], unparsable: dict[str, int]
) -> dict[str, Counts]:
    spark, args = run.spark, run.args
    ids = [d.file_id for d in batch]
    with run.step("write bronze.trips_raw"):
        raw = reduce(
            DataFrame.unionAll,
            (
                read_rows(spark, d.file, spark.sparkContext.defaultParallelism).select(
                    "fields",
                    F.lit(d.file_id).alias("file_id"),
                    "source_row",
                    F.lit(d.file.recognised.layout.name).alias("layout"),
                )
                for d in batch
            ),
        )
        _put(run, TRIPS_RAW, raw, ids)
    with run.step("classify"):
        stored = run.lake.read(TRIPS_RAW)
        groups: dict[Any, list[str]] = {}
        for d in batch:
            groups.setdefault(
                (
                    d.file.recognised.source,
                    d.file.recognised.service,
                    d.file.recognised.layout.name,
                ),
                [],
            ).append(d.file_id)
        by_id = {d.file_id: d for d in batch}
        classified = reduce(
            DataFrame.unionAll,
            (
                classify(
                    stored.where(F.col("file_id").isin(group)),
                    by_id[group[0]].file.recognised,
                    box=args.box,
                    max_duration_s=args.max_duration.total_seconds(),
                )
                for group in groups.values()
            ),
        ).persist(StorageLevel.MEMORY_AND_DISK)
        counts = _count(classified, ids, reasons, unparsable)
        _check_unique(run, classified, ids, sum(c.read for c in counts.values()))
    with run.step("write silver.trips_rejected"):
        _put(run, TRIPS_REJECTED, rejected_of(classified), ids)
    with run.step("write silver.trips"):
        _put(run, TRIPS, trips_of(classified), ids)
    with run.step("check and mark as done"):
        _settle(run, classified, counts)
        rows = [
            (
                d.file_id,
                list(d.paths),
                d.file.bytes,
                d.file.recognised.layout.name,
                _rules(run, d.file),
                counts[d.file_id].read,
                counts[d.file_id].accepted,
                counts[d.file_id].rejected,
                run.run_id,
            )
            for d in batch
        ]
        run.lake.merge(DELIVERIES, spark.createDataFrame(rows, DELIVERIES.struct))
    classified.unpersist()
    return counts


def _put(run: Run, table: Table, rows: DataFrame, ids: Sequence[str]) -> None:
    """Append the files' rows, or replace what an unfinished run left of them.

    Appends never conflict, so different files land at the same time. Two runs that ingest the
    same file at once may both append; `_settle` finds and mends that.
    """
    mine = F.col("file_id").isin(list(ids))
    if run.lake.exists(table) and not run.lake.read(table).where(mine).isEmpty():
        run.lake.replace(table, rows, _where(ids))
    else:
        run.lake.append(table, rows)


def _where(ids: Sequence[str]) -> str:
    quoted = ", ".join(f"'{i}'" for i in ids)  # hexadecimal digests: nothing to escape
    return f"file_id IN ({quoted})"


def _count(
    classified: DataFrame,
    ids: Sequence[str],
    reasons: dict[str, int],
    unparsable: dict[str, int],
) -> dict[str, Counts]:
    accepted = F.col("reasons").isNull()
    totals = classified.groupBy("file_id").agg(
        F.count(F.lit(1)).alias("read"),
        F.count_if(accepted).alias("accepted"),
        F.count_if(~accepted).alias("rejected"),
        F.count_if(accepted & F.col("shifted")).alias("shifted"),
    )
    counts = {i: Counts(0, 0, 0) for i in ids}
    for row in totals.collect():
        counts[row["file_id"]] = Counts(
            row["read"], row["accepted"], row["rejected"], row["shifted"]
        )
    for column, into, rows in (
        ("reasons", reasons, classified),
        ("unparsable", unparsable, classified.where(accepted)),
    ):
        for name, n in rows.select(F.explode(column)).groupBy("col").count().collect():
            into[name] = into.get(name, 0) + n
    return counts


def _check_unique(run: Run, classified: DataFrame, ids: Sequence[str], rows: int) -> None:
    """Trip ids are hashes: two rows with one id stop the run before silver is touched."""
    distinct = classified.select("trip_id").distinct().count()
    clash = ""
    if distinct != rows:
        clash = f"{rows - distinct} of its {rows} rows share a trip_id with another"
    elif run.lake.exists(TRIPS):
        others = run.lake.read(TRIPS).where(~F.col("file_id").isin(list(ids)))
        both = others.select("trip_id").join(classified.select("trip_id"), "trip_id", "leftsemi")
        if not both.isEmpty():
            clash = "a row has the trip_id of a trip that is already in silver.trips"
    if clash:
        raise RuntimeError(f"duplicate trip_id: {clash}; nothing was written to silver")


def _counts_in_tables(run: Run, ids: Sequence[str]) -> dict[str, Counts]:
    def counted(table: Table) -> dict[str, int]:
        if not run.lake.exists(table):
            return {}
        rows = run.lake.read(table).where(F.col("file_id").isin(list(ids)))
        return {row[0]: row[1] for row in rows.groupBy("file_id").count().collect()}

    raw, trips, rejected = counted(TRIPS_RAW), counted(TRIPS), counted(TRIPS_REJECTED)
    return {i: Counts(raw.get(i, 0), trips.get(i, 0), rejected.get(i, 0)) for i in ids}


def _settle(run: Run, classified: DataFrame, counts: Mapping[str, Counts]) -> None:
    """Check, from the tables, that read = accepted + rejected for each file.

    Too many rows mean that another run ingested the same file at the same time and both appended:
    the rows are replaced by one copy.
    """
    ids = sorted(counts)
    expected = {i: replace(c, shifted=0) for i, c in counts.items()}
    if _counts_in_tables(run, ids) != expected:
        log(f"{JOB}: another run ingested the same file: keeping one copy")
        raw = run.lake.read(TRIPS_RAW).where(F.col("file_id").isin(ids))
        run.lake.replace(TRIPS_RAW, raw.dropDuplicates(["file_id", "source_row"]), _where(ids))
        once = classified.dropDuplicates(["file_id", "source_row"])
        run.lake.replace(TRIPS_REJECTED, rejected_of(once), _where(ids))
        run.lake.replace(TRIPS, trips_of(once), _where(ids))
    held = _counts_in_tables(run, ids)
    for i in ids:
        c = held[i]
        if c != expected[i] or c.read != c.accepted + c.rejected:
            raise RuntimeError(f"rows do not add up for file {i}: tables hold {c}, not {counts[i]}")


def _print_summary(
    run: Run,
    todo: Sequence[Delivery],
    same: Sequence[Delivery],
    counts: Mapping[str, Counts],
    reasons: Mapping[str, int],
    unparsable: Mapping[str, int],
) -> None:
    print(f"\n{'file':<48} {'layout':<12} {'read':>12} = {'accepted':>12} + {'rejected':>12}")
    for d in todo:
        c = counts[d.file_id]
        name = d.file.path.rsplit("/", 1)[-1][-48:]
        print(
            f"{name:<48} {d.file.recognised.layout.name:<12} "
            f"{c.read:>12,} = {c.accepted:>12,} + {c.rejected:>12,}"
        )
    for d in same:
        print(f"{d.file.path.rsplit('/', 1)[-1][-48:]:<48} already in the lake: nothing changed")
    for title, found in (("rejected because", reasons), ("no value for", unparsable)):
        for name, n in sorted(found.items(), key=lambda x: (-x[1], x[0])):
            print(f"  {title} {name}: {n:,} rows")
    if shifted := sum(c.shifted for c in counts.values()):
        print(f"  times in the hour that spring skips, taken an hour later: {shifted:,} rows")
    steps = ", ".join(f"{k} {v:.1f} s" for k, v in run.seconds.items())
    print(f"{steps}\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

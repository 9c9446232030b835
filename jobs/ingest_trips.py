"""Delivered trip files become bronze.trips_raw, silver.trips and silver.trips_rejected.

Commit order: raw rows, rejected rows, trips, and last the delivery that marks the files as done.
Killed anywhere, the next run replaces what was left of unfinished files, so the tables end as an
undisturbed run would leave them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

from pyspark.sql import functions as F

from jobs.ingestion import Delivery, counts_in_tables, ingest
from jobs.run import Run, log, parser, run_job
from jobs.session import settings
from jobs.trip_rules import A_DAY, NEW_YORK, Rules, add_rules, layouts_of
from pipelines.errors import DataRefused
from pipelines.trips.clean import Outcome
from pipelines.trips.layouts import Layout
from pipelines.trips.sources import FileRefused, SourceFile, content_id, find_files, inspect
from schemas import DELIVERIES, TRIPS, TRIPS_RAW, TRIPS_REJECTED

JOB = "ingest_trips"

# Files that are committed together: enough to spread the cost of four commits over many small
# files, little enough that a kill loses minutes.
_BATCH_BYTES = 1 << 30
_BATCH_FILES = 200


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
    add_rules(made, box_default=NEW_YORK, duration_default=A_DAY)
    made.add_argument(
        "--again",
        action="store_true",
        help="ingest files that are already there again, under this run's rules",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    run.lake.check(TRIPS_RAW, TRIPS_REJECTED, TRIPS, DELIVERIES)
    with run.step("check headers"):
        layouts = layouts_of(run)
        files = _inspect_all(run, find_files(run.spark, run.args.files), layouts)
    with run.step("hash content"):
        deliveries = _by_content(run, files)
    with run.step("compare with lake"):
        todo, same = _not_done(run, deliveries)
    outcomes: dict[str, Outcome] = {}
    # Rows are numbered by how a file is cut, which by default depends on the cores of the moment.
    cores = run.spark.sparkContext.defaultParallelism
    with settings(run.spark, {"spark.sql.files.minPartitionNum": str(cores)}):
        for batch in _batches(todo):
            done = len(outcomes)
            log(f"{JOB}: files {done + 1} to {done + len(batch)} of {len(todo)}")
            outcomes |= ingest(run, batch, {d.file_id: _rules(run, d.file) for d in batch})
    total = reduce(add, outcomes.values(), Outcome())
    run.rows.update(read=total.read, accepted=total.accepted, rejected=total.rejected)
    run.wrote(TRIPS_RAW, TRIPS_REJECTED, TRIPS, DELIVERIES)
    _print_summary(run, todo, same, outcomes, total)
    return {
        "files_ingested": len(todo),
        "files_unchanged": len(same),
        "rejected_by_reason": total.reasons,
        "unparsable_optional": total.unparsable,
        "times_shifted_out_of_spring_gap": total.shifted,
        "days": dict(sorted((total.days + _days(run, same)).items())),
    }


def _inspect_all(run: Run, paths: Sequence[str], layouts: Sequence[Layout]) -> list[SourceFile]:
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


def _rules(run: Run, file: SourceFile) -> Rules:
    return Rules(
        run.args.box, run.args.max_duration.total_seconds(), file.recognised.layout.timezone
    )


def _not_done(run: Run, deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """Files to ingest, and files whose rows are in the tables as their delivery says."""
    if not run.lake.exists(DELIVERIES):
        return list(deliveries), []
    ids = [d.file_id for d in deliveries]
    rows = run.read(DELIVERIES).where(F.col("file_id").isin(ids))
    known = {row["file_id"]: row.asDict() for row in rows.collect()}
    if not known:
        return list(deliveries), []
    held = counts_in_tables(run.lake, sorted(known))
    todo, same = [], []
    for d in deliveries:
        row = known.get(d.file_id)
        if row:
            new_paths = sorted({*row["paths"], *d.paths})
            d = replace(d, paths=tuple(new_paths))
        if row is None or run.args.again:
            todo.append(d)
            continue
        if held[d.file_id] != (row["rows_read"], row["rows_accepted"], row["rows_rejected"]):
            log(f"{JOB}: {d.file.path} does not have the rows it should have: ingesting it again")
            todo.append(d)
            continue
        if row["rules"] != _rules(run, d.file).as_json():
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


def _days(run: Run, same: Sequence[Delivery]) -> Counter[str]:
    """Trips by day of files that were there before: a run may wait for them none the less."""
    if not same:
        return Counter()
    mine = F.col("file_id").isin([d.file_id for d in same])
    days = run.lake.read(TRIPS).where(mine).groupBy("day").count().collect()
    return Counter({str(r["day"]): r["count"] for r in days})


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


def _print_summary(
    run: Run,
    todo: Sequence[Delivery],
    same: Sequence[Delivery],
    outcomes: Mapping[str, Outcome],
    total: Outcome,
) -> None:
    print(f"\n{'file':<48} {'layout':<12} {'read':>12} = {'accepted':>12} + {'rejected':>12}")
    for d in todo:
        of = outcomes[d.file_id]
        print(
            f"{d.name[-48:]:<48} {d.file.recognised.layout.name:<12} "
            f"{of.read:>12,} = {of.accepted:>12,} + {of.rejected:>12,}"
        )
    for d in same:
        print(f"{d.name[-48:]:<48} already in the lake: nothing changed")
    for title, found in (("rejected because", total.reasons), ("no value for", total.unparsable)):
        for name, n in sorted(found.items(), key=lambda x: (-x[1], x[0])):
            print(f"  {title} {name}: {n:,} rows")
    if total.shifted:
        print(f"  times in the hour that spring skips, taken an hour later: {total.shifted:,} rows")
    steps = ", ".join(f"{k} {v:.1f} s" for k, v in run.seconds.items())
    print(f"{steps}\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

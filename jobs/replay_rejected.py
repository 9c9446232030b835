"""Rows of silver.trips_rejected are judged again, after a rule or a mapping was mended.

Those that are trips now go to silver.trips; the others stay, with the reasons that they have now.
Commit order: trips, rejected rows, deliveries. A run that was killed is completed by the next,
which finds the rows that have their trip already.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import reduce
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.ingestion import counts_in_tables, sql_of_files
from jobs.run import Run, log, parser, run_job
from jobs.trip_rules import Rules, add_rules, layouts_of
from pipelines.errors import DataRefused, UsageError
from pipelines.quality.rejected import ranked_reasons
from pipelines.trips.clean import classify, known_reasons, rejected_of, trips_of
from pipelines.trips.layouts import Recognised, Unrecognised, recognise
from pipelines.trips.rows import WHOLE_LINE
from schemas import DELIVERIES, TRIPS, TRIPS_RAW, TRIPS_REJECTED
from schemas.frames import frame_of

JOB = "replay_rejected"


@dataclass(frozen=True)
class Replayed:
    """A file with rejected rows: how its rows are read and judged now."""

    file_id: str
    delivery: dict[str, Any]
    recognised: Recognised
    rules: Rules


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Judge the rejected trips of a lake again, and show why they were rejected.",
        "  spark-submit jobs/replay_rejected.py --lake lake --dry-run\n"
        "  ranks the reasons, with examples, and says how many rows would be trips now; without\n"
        "  --dry-run those become trips. Rules that are not named stay as each file has them;\n"
        "  those that are, are for the files of the built-in layouts, or with --mapping for the\n"
        "  files that it fits. All other files stay as they are",
    )
    add_rules(made)
    made.add_argument(
        "--reason",
        metavar="REASON",
        help="only rows that were rejected for this reason, alone or among others (default: all)",
    )
    made.add_argument("--dry-run", action="store_true", help="tell, and change nothing")
    return made


def body(run: Run) -> Mapping[str, Any]:
    rejected = run.read(TRIPS_REJECTED)
    with run.step("rank reasons"):
        found = _print_reasons(rejected)
    chosen = rejected
    if run.args.reason:
        # A table may hold reasons that an earlier version gave.
        _check_reason(run.args.reason, {*known_reasons(), *found})
        chosen = rejected.where(F.array_contains("reasons", run.args.reason))
    with run.step("read headers"):
        files, others = _files(run, chosen)
    if not files:
        print("no row to judge again\n")
        run.rows.update(judged=0, accepted=0)
        return {"files": 0}
    with run.lake.folder.only_writer(TRIPS_REJECTED):
        fields = _replay(run, rejected, chosen, files)
    return {**fields, "files_of_other_layouts": others}


def _check_reason(reason: str, known: Collection[str]) -> None:
    """Raises UsageError for a reason that no row can have."""
    if reason not in known:
        near = get_close_matches(reason, known)
        listed = ", ".join(sorted(known))
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {listed}"
        raise UsageError(f"--reason {reason}: no row is rejected for that: {hint}")


def _replay(
    run: Run, rejected: DataFrame, chosen: DataFrame, files: Sequence[Replayed]
) -> Mapping[str, Any]:
    judged = reduce(DataFrame.unionAll, (_judged(chosen, f) for f in files))
    judged = judged.persist(StorageLevel.MEMORY_AND_DISK)
    with run.step("judge"):
        accepted = trips_of(judged)
        counts = {r["file_id"]: r["count"] for r in accepted.groupBy("file_id").count().collect()}
        run.rows.update(judged=judged.count(), accepted=sum(counts.values()))
    _print_files(files, counts)
    amiss: list[str] = []
    if not run.args.dry_run:
        ids = [f.file_id for f in files]
        amiss = _write(run, rejected.where(F.col("file_id").isin(ids)), judged, files)
        run.wrote(TRIPS, TRIPS_REJECTED, DELIVERIES)
    judged.unpersist()
    if amiss:
        raise RuntimeError(
            f"rows do not add up for {'; '.join(amiss)} -- all other files are done; run "
            "ingest_trips on that path, under the file's rules, and its rows are written anew"
        )
    return {"files": len(files), "dry_run": run.args.dry_run}


def _files(run: Run, chosen: DataFrame) -> tuple[list[Replayed], int]:
    """The files of the chosen rows that this run is for, and how many others there are.

    Rules that are named for one city must not judge another's rows: with --mapping the files are
    those that it fits, without it those of the built-in layouts. Raises DataRefused where all are
    others.
    """
    layouts = layouts_of(run)
    layouts = layouts[: len(run.args.mapping)] or layouts
    ids = [r["file_id"] for r in chosen.select("file_id").distinct().collect()]
    mine = F.col("file_id").isin(ids)
    names = F.array_remove(F.map_keys("fields"), WHOLE_LINE)
    raw = run.read(TRIPS_RAW).where(mine)
    headers = raw.groupBy("file_id").agg(F.max_by(names, F.size(names)).alias("header")).collect()
    header = {r["file_id"]: r["header"] for r in headers}
    deliveries = {r["file_id"]: r.asDict() for r in run.read(DELIVERIES).where(mine).collect()}
    found, others = [], []
    for file_id in sorted(ids):
        if file_id not in deliveries:
            raise DataRefused(
                f"file {file_id} has rejected rows and is not in {DELIVERIES.name}: an ingestion "
                "of it was cut off; run ingest_trips on it first"
            )
        delivery = deliveries[file_id]
        named = f"file {file_id} ({delivery['paths'][0]})"
        try:
            recognised = recognise(header.get(file_id, []), layouts)
        except Unrecognised as e:
            others.append(f"{named} {e}")
            continue
        if recognised.layout.name != delivery["layout"] and not run.args.mapping:
            others.append(
                f"{named} was read by the mapping {delivery['layout']!r}, and without it "
                f"{recognised.layout.name!r} fits: name its file with --mapping"
            )
            continue
        found.append(_replayed(run, file_id, delivery, recognised))
    if others and not found:
        raise DataRefused(f"no file is of these layouts, {len(others)} of others: {others[0]}")
    if others:
        log(
            f"{JOB}: files of other layouts, which stay as they are: {len(others)}, "
            f"such as {others[0]}"
        )
    return found, len(others)


def _replayed(run: Run, file_id: str, delivery: dict[str, Any], recognised: Recognised) -> Replayed:
    """The file's own rules, but for those that this run names; a mapping names its time zone."""
    args = run.args
    own = Rules.from_json(delivery["rules"])
    if not args.timezone and not args.mapping:
        recognised = replace(recognised, layout=recognised.layout.in_timezone(own.timezone))
    rules = Rules(
        args.box or own.box,
        args.max_duration.total_seconds() if args.max_duration else own.max_duration_s,
        recognised.layout.timezone,
    )
    return Replayed(file_id, delivery, recognised, rules)


def _judged(chosen: DataFrame, file: Replayed) -> DataFrame:
    rows = chosen.where(F.col("file_id") == file.file_id)
    rules = file.rules
    return classify(rows, file.recognised, box=rules.box, max_duration_s=rules.max_duration_s)


def _write(run: Run, old: DataFrame, judged: DataFrame, files: Sequence[Replayed]) -> list[str]:
    """Write what was found; the files whose rows do not add up, in words.

    `old` are all rejected rows of the files, `judged` those of them that were judged again.
    """
    lake, ids = run.lake, [f.file_id for f in files]
    row = ["file_id", "source_row"]
    trips = lake.read(TRIPS)
    with run.step(f"write {TRIPS.name}"):
        new = _new_trips(trips, trips_of(judged))
        if not new.isEmpty():
            lake.append(TRIPS, new)
    with run.step(f"write {TRIPS_REJECTED.name}"):
        others = old.join(judged.select(*row), row, "left_anti").select(*old.columns)
        left = others.unionByName(rejected_of(judged))
        seen = [*row, "reasons"]
        if not _same_rows(left.select(*seen), old.select(*seen)):
            lake.replace(TRIPS_REJECTED, left, sql_of_files(ids))
    with run.step(f"write {DELIVERIES.name}"):
        return _update_deliveries(run, files)


def _same_rows(a: DataFrame, b: DataFrame) -> bool:
    return a.exceptAll(b).isEmpty() and b.exceptAll(a).isEmpty()


def _new_trips(trips: DataFrame, accepted: DataFrame) -> DataFrame:
    """The accepted rows that a run before this one did not write already.

    Raises RuntimeError where an id is that of another row's trip.
    """
    there = trips.select(
        "trip_id", F.col("file_id").alias("of_file"), F.col("source_row").alias("of_row")
    )
    both = accepted.join(there, "trip_id").where(
        (F.col("of_file") != F.col("file_id")) | (F.col("of_row") != F.col("source_row"))
    )
    if not both.isEmpty():
        raise RuntimeError(
            f"duplicate trip_id: a row has the trip_id of a trip that is already in {TRIPS.name}; "
            "nothing was written"
        )
    return accepted.join(there.select("trip_id"), "trip_id", "left_anti")


def _update_deliveries(run: Run, files: Sequence[Replayed]) -> list[str]:
    """Mark the files as they are now; those whose rows do not add up are given back, in words."""
    held = counts_in_tables(run.lake, [f.file_id for f in files])
    changed, amiss = [], []
    for f in files:
        read, accepted, rejected = held[f.file_id]
        if read != accepted + rejected:
            amiss.append(
                f"{f.delivery['paths'][0]} (file {f.file_id}): {read:,} read, {accepted:,} "
                f"accepted, {rejected:,} rejected"
            )
            continue
        new = {
            **f.delivery,
            "layout": f.recognised.layout.name,
            # What a part of the rows was judged by are not the rules of the file.
            "rules": f.delivery["rules"] if run.args.reason else f.rules.as_json(),
            "rows_accepted": accepted,
            "rows_rejected": rejected,
        }
        if new != f.delivery:
            changed.append(tuple({**new, "run_id": run.run_id}[c.name] for c in DELIVERIES.columns))
    if changed:
        run.lake.merge(DELIVERIES, frame_of(run.spark, changed, DELIVERIES.struct))
    return amiss


def _print_reasons(rejected: DataFrame) -> set[str]:
    """Show the reasons that rows have, the most frequent first; which those are."""
    shown = rejected.withColumn("text", F.to_json("fields"))
    ranked = ranked_reasons(shown, key=["file_id", "source_row"], shown="text").collect()
    print(f"\n{'reason':<28} {'rows':>10} {'alone':>10}  such as")
    for r in ranked:
        print(f"{r['reason']:<28} {r['rows']:>10,} {r['alone']:>10,}  {_short(r['first'])}")
        if r["last"] != r["first"]:
            print(f"{'':<50}  {_short(r['last'])}")
    print()
    return {r["reason"] for r in ranked}


def _short(text: str, most: int = 150) -> str:
    values = ", ".join(f"{k}={v}" for k, v in json.loads(text).items() if v)
    return values if len(values) <= most else values[: most - 3] + "..."


def _print_files(files: Sequence[Replayed], counts: Mapping[str, int]) -> None:
    for f in files:
        name = f.delivery["paths"][0].rsplit("/", 1)[-1]
        layout = f.recognised.layout.name
        print(f"{name[-60:]:<60} {layout:<12} trips now: {counts.get(f.file_id, 0):,}")
    print()


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

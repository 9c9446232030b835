"""`make bench`: count return trips with every contender in turn, and compare.

Then the way from table to table, and what takes milliseconds. Prints tables, and writes them with
every single time to benchmarks/results/. Days have the density of a real day where SHARED_DATA has
one, else they are made.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks import delta_to_delta, lookups
from benchmarks.contenders import BASE, contenders
from benchmarks.data import made_days, real_days
from benchmarks.measure import Result, measure
from benchmarks.report import RESULTS, growth_table, known, table, write_json, write_results
from jobs.session import open_session
from pipelines.trips.return_trips import RADII_M
from schemas import RETURN_TRIPS
from udfs.native import JAR_NAME, is_available

PARTS = ("join", "delta", "lookups")
_DELTA_ROUNDS = 3


def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    spark = open_session("roundtrip benchmark")
    spark.sparkContext.setLogLevel("ERROR")
    folder = Path(args.data or tempfile.mkdtemp(prefix="roundtrip-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    if "join" in args.parts:
        _join(spark, folder, args)
    if {"delta", "lookups"} & set(args.parts):
        _tables(spark, folder, args)
    spark.stop()
    return 0


def _join(spark: SparkSession, folder: Path, args: argparse.Namespace) -> None:
    there, skipped = contenders(spark, folder, os.cpu_count() or 1)
    there = {name: c for name, c in there.items() if _wanted(name, args.only)}
    for name, reason in skipped.items():
        print(f"not run: {name}, {reason}", file=sys.stderr)
    results: list[Result] = []
    for days in sorted(args.days):
        data, path = _data(days, folder)
        for radius_m in args.radii_m:
            result = Result(data, pq.read_metadata(path).num_rows, radius_m)
            smaller = known(results, radius_m)
            results.append(result)
            measure(there, path, result, smaller, rounds=args.rounds, limit_s=args.limit)
            print("\n" + table(result), flush=True)
            write_results(args.results, results, skipped)
    for radius_m in args.radii_m:
        print(growth_table(results, radius_m), flush=True)


def _tables(spark: SparkSession, folder: Path, args: argparse.Namespace) -> None:
    """Table to table, and the lookups in what that leaves, on the largest number of days."""
    if not is_available(spark):
        print(f"not run: Delta to Delta and lookups, no {JAR_NAME}", file=sys.stderr)
        return
    data, path = _data(max(args.days), folder)
    lake, optimize_trips_s = delta_to_delta.trips_lake(spark, path, folder / "lake")
    rounds = min(args.rounds, _DELTA_ROUNDS) if "delta" in args.parts else 1
    found = delta_to_delta.delta_to_delta(lake, radii_m=RADII_M, rounds=rounds)
    optimize_pairs_s = delta_to_delta.timed(lambda: delta_to_delta.optimize(lake, RETURN_TRIPS))
    found["optimize_s"] = {"trips": round(optimize_trips_s, 2), "pairs": round(optimize_pairs_s, 2)}
    if "delta" in args.parts:
        text = delta_to_delta.markdown(found, data)
        write_json(args.results, "delta_to_delta", {"data": data, **found})
        (args.results / "delta_to_delta.md").write_text(text)
        print("\n" + text, flush=True)
    if "lookups" in args.parts:
        quick = lookups.lookups(lake, joined_s=found["median_s"]["count"])
        write_json(args.results, "lookups", {"data": data, **quick})
        (args.results / "lookups.md").write_text(lookups.text(quick))
        print("\n" + lookups.text(quick), flush=True)


def _data(days: int, folder: Path) -> tuple[str, Path]:
    s = "s" * (days > 1)
    if real := real_days(days, folder):
        return f"{days} real day{s}", real
    return f"{days} made day{s}", made_days(days, folder)


def _arguments() -> argparse.ArgumentParser:
    def numbers(text: str) -> list[int]:
        return [int(x) for x in text.split(",")]

    def parts(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(PARTS):
            raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}")
        return chosen

    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--days", type=numbers, default=[1, 3, 24], help="sizes (default 1,3,24)")
    made.add_argument("--radii-m", type=numbers, default=[200, 50], help="radii (default 200,50)")
    made.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    made.add_argument(
        "--limit",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="what would take longer, by its growth, is not run (default 600)",
    )
    made.add_argument("--only", default="", help="contenders whose name holds this, and bucketed")
    made.add_argument("--parts", type=parts, default=list(PARTS), help=f"default {','.join(PARTS)}")
    made.add_argument("--data", help="folder that keeps the data for the next run")
    made.add_argument("--results", type=Path, default=RESULTS, help=f"default {RESULTS.name}/ here")
    return made


def _wanted(name: str, only: str) -> bool:
    return only in name or name == BASE


if __name__ == "__main__":
    sys.exit(main())

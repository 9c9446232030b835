"""Days of made taxi trips as files, for demos and for tests at any scale. Made, not real.

Needs no lake and no Spark: it writes the files that `ingest_trips` reads, one a day.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path

from jobs import amounts
from jobs.run import EXIT_DONE, EXIT_FAILED, log
from pipelines.trips.made.files import FORMATS, Made, Order, write_day

JOB = "make_trips"

_README = """\
These taxi trips are made, not real: a program drew them (roundtrip's make_trips). Places, streets
and rush hours are shaped like New York's, but nobody took these rides.

Some rows are broken on purpose, to show what ingestion does with them. The same command makes the
same files again:

  make_trips {arguments}
"""


def arguments() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description="Make days of taxi trips shaped like New York's. Made, not real.",
        epilog="example:\n"
        "  spark-submit jobs/make_trips.py --days 3 --trips-per-day 400000 --out made\n"
        "  writes made/made_yellow_2015-12-01.csv.gz and two more days with 400 000 rows each, of\n"
        "  which 6 000 are broken on purpose; a day's file depends on the seed, not on --days",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--out", required=True, metavar="DIR", help="folder for the files")
    made.add_argument(
        "--days", type=amounts.count, default=1, metavar="N", help="how many (default 1)"
    )
    made.add_argument(
        "--trips-per-day",
        type=amounts.count,
        default=400_000,
        metavar="N",
        help="rows a day (400000)",
    )
    made.add_argument(
        "--seed", type=amounts.seed, default=1, metavar="S", help="0 or more (default 1)"
    )
    made.add_argument(
        "--start-date",
        type=_date,
        default=date(2015, 12, 1),
        metavar="DATE",
        help="first day (default 2015-12-01)",
    )
    made.add_argument(
        "--dirty-share",
        type=amounts.share,
        default=0.015,
        metavar="X",
        help="share of rows that ingestion must reject, of every kind alike (default 0.015); a "
        "tenth as many rows have each flaw that it must bear",
    )
    made.add_argument(
        "--commuter-share",
        type=amounts.share,
        default=0.04,
        metavar="X",
        help="share of rows that belong to people who go back the way they came within 8 h; "
        "others meet by chance (default 0.04)",
    )
    made.add_argument("--format", choices=FORMATS, default="csv.gz", help="(default csv.gz)")
    return made


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text!r} is no date: write 2015-12-01") from e


def _write_all(days: Sequence[date], order: Order, folder: str) -> Iterator[Made]:
    """One process a core, one day a task: memory is bounded by a day's trips per core."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    workers = min(len(days), cores)
    if workers == 1:
        yield from (write_day(day, order, folder) for day in days)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write_day, days, [order] * len(days), [folder] * len(days))


def _total(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {kind: sum(c[kind] for c in counts) for kind in (counts[0] if counts else ())}


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments()
    args = parser.parse_args(argv)
    order = Order(args.trips_per_day, args.seed, args.dirty_share, args.commuter_share, args.format)
    days = [args.start_date + timedelta(days=i) for i in range(args.days)]
    start = time.perf_counter()
    files: list[Made] = []
    error = None
    try:
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        again = (
            f"--days {args.days} --trips-per-day {args.trips_per_day} --seed {args.seed} "
            f"--start-date {args.start_date} --dirty-share {args.dirty_share} "
            f"--commuter-share {args.commuter_share} --format {args.format} --out DIR"
        )
        (folder / "README.txt").write_text(_README.format(arguments=again), encoding="utf-8")
        for made in _write_all(days, order, args.out):
            files.append(made)
            log(f"{JOB}: {made.path} ({made.bytes / 1e6:.1f} MB), {len(files)} of {len(days)}")
    except OSError as e:
        error = f"{args.out}: {e.strerror or e}: nothing half-written is left, run it again"
        log(f"{JOB}: {error}")
    seconds = time.perf_counter() - start
    dirty, flawed = _total([f.dirty for f in files]), _total([f.flawed for f in files])
    rows = sum(f.rows for f in files)
    print(f"made {rows:,} rows in {len(files)} files, {sum(dirty.values()):,} of them broken")
    line = {
        "job": JOB,
        "outcome": "failed" if error else "done",
        **({"error": error} if error else {}),
        "made": True,
        "files": [
            {k: v for k, v in asdict(f).items() if k in ("path", "bytes", "rows")} for f in files
        ],
        "dirty_by_reason": dirty,
        "flawed_by_kind": flawed,
        "rows": {
            "written": rows,
            "dirty": sum(dirty.values()),
            "commuters": sum(f.commuter_rows for f in files),
        },
        "seconds": {"total": round(seconds, 3)},
    }
    print(json.dumps(line), flush=True)
    return EXIT_FAILED if error else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())

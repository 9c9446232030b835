"""Delta's housekeeping: small files become large ones, and files that no version needs any more go.

Without --apply it only tells what it would do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from jobs.arguments import duration
from jobs.run import Run, parser, run_job
from pipelines.errors import UsageError
from schemas import RETURN_TRIPS_LIVE, TABLES, Table

JOB = "maintain"

# Delta's own default. A reader, a stream or an incremental run may be that far behind.
LEAST_RETENTION = timedelta(days=7)
_NAMES = {t.name: t for t in TABLES}


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Compact and cluster the tables of a lake, and remove files that are no longer needed.",
        "  spark-submit jobs/maintain.py --lake lake\n"
        "  tells what it would do; with --apply it does it. Versions older than --retention can\n"
        "  not be read afterwards",
    )
    made.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"such as silver.trips (default: all that are there, of {', '.join(_NAMES)})",
    )
    made.add_argument(
        "--retention",
        type=duration,
        default=LEAST_RETENTION,
        metavar="TIME",
        help="keep what versions of this age need (default and least: 7d)",
    )
    made.add_argument("--apply", action="store_true", help="do it (default: only tell)")
    return made


def body(run: Run) -> Mapping[str, Any]:
    run.begun()  # it looks at ops.runs too
    args = run.args
    if args.retention < LEAST_RETENTION:
        raise UsageError(
            f"--retention {args.retention}: less than {LEAST_RETENTION.days} days would take files "
            "away from those who are reading them"
        )
    tables = _tables(run, args.tables)
    print(f"\n{'table':<28} {'files':>7} {'MB':>10} {'MB a file':>10} {'to remove':>10}")
    removed: dict[str, int] = {}
    left: list[str] = []
    for table in tables:
        with run.step(table.name):
            with _turn(run, table) as apply:
                if apply:
                    run.lake.optimize(table)
                files, size = run.lake.size(table)
                removed[table.name] = run.lake.vacuum(table, args.retention, dry_run=not apply)
            if args.apply and not apply:
                left.append(table.name)
            run.wrote(table)
        mean = size / files / 1e6 if files else 0
        print(
            f"{table.name:<28} {files:>7,} {size / 1e6:>10,.1f} {mean:>10,.1f} "
            f"{removed[table.name]:>10,}"
        )
    if not args.apply:
        print("\nnothing was changed: --apply compacts the files, and removes those that are to go")
    if left:
        print(f"\na stream is writing {', '.join(left)}: left as it is, end the stream first")
    print()
    return {"applied": args.apply, "files_to_remove": removed, "left": left}


@contextmanager
def _turn(run: Run, table: Table) -> Iterator[bool]:
    """Whether to write the table: to be, and no stream does, which takes no turns with others."""
    with ExitStack() as held:
        apply = run.args.apply
        if apply and table is RETURN_TRIPS_LIVE:
            try:
                held.enter_context(run.lake.folder.only_writer(table))
            except UsageError:
                apply = False
        yield apply


def _tables(run: Run, names: Sequence[str]) -> list[Table]:
    if unknown := sorted(set(names) - set(_NAMES)):
        raise UsageError(f"no table {', '.join(unknown)}: there are {', '.join(_NAMES)}")
    missing = [n for n in names if not run.lake.exists(_NAMES[n])]
    if missing:
        raise UsageError(f"{', '.join(missing)} is not in {run.lake.root}: check --lake")
    chosen = [_NAMES[n] for n in names] or list(TABLES)
    return [t for t in chosen if run.lake.exists(t)]


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

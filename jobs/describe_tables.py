"""The data dictionary: every table of the lake as Markdown. Needs no Spark session and no lake."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.run import EXIT_DONE, EXIT_FAILED, log
from pipelines.files import write_whole
from schemas import TABLES

JOB = "describe_tables"


def arguments() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description="Write the data dictionary of the lake's tables as Markdown.",
        epilog="example:\n"
        "  python jobs/describe_tables.py --out docs/tables.md\n"
        "  writes one section a table: key, clustering, columns with units, constraints",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--out", required=True, metavar="FILE.md", help="file to write")
    return made


def dictionary() -> str:
    """The data dictionary, in the order in which data flows through the tables."""
    contents = [f"- [`{t.name}`](#{t.name.replace('.', '')})" for t in TABLES]
    head = (
        "# Tables",
        "",
        "What lies in a lake. Written by `make docs` from the declarations in `schemas/`: change",
        "those, not this file. Table `layer.name` lies at `LAKE/layer/name`.",
        "",
        "No write changes a table's columns. A lake that was made before a column was declared is",
        "refused with that column's name; any job adds such columns, NULL in the rows that are",
        "there, when it is run once with `--evolve-schema`. Other differences are always refused.",
        "",
        *contents,
        "",
    )
    return "\n".join((*head, "\n".join(t.to_markdown() for t in TABLES)))


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    out = Path(args.out)
    error = ""
    try:
        write_whole(out, lambda file: file.write(dictionary().encode()))
    except OSError as e:
        error = f"{out} cannot be written: {e.strerror}"
        log(f"{JOB}: {error}")
    line = {"job": JOB, "outcome": "failed" if error else "done", "tables": len(TABLES)}
    print(json.dumps({**line, **({"error": error} if error else {"out": str(out)})}))
    return EXIT_FAILED if error else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())

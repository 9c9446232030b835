"""Delivered figures become bronze.figures and bronze.questions.

Commit order: changed figures, new figures, questions, and last the deliveries that mark lists and
shards as done. Killed anywhere, the next run writes what is missing and counts what the killed run
wrote as an undisturbed run would.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from jobs.figure_comparison import Counts
from jobs.figure_ingestion import ingest
from jobs.run import Run, parser, run_job
from pipelines.errors import DataRefused, UsageError
from pipelines.figures.delivered.limits import Limits
from pipelines.figures.delivered.places import DeliveryRefused, place_of, said_refused
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.registry import FORMATS
from schemas import FIGURE_DELIVERIES, FIGURES, QUESTIONS

JOB = "ingest_figures"

_COLUMN_ARGUMENTS = {
    "image": "the image's path below the list's folder (hf-parquet: the image itself)",
    "caption": "the caption",
    "article_id": "the article that the figure is from",
    "patient_id": "the patient",
    "licence": "the licence",
    "published_split": "the publisher's split",
    "modality": "the modality",
    "record": "the row's own id (default: the image's path)",
}
# Sources are compared, listed and used in file names of pages: no blanks, no quotes.
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Ingest images with captions, or with questions, into bronze tables.",
        "  spark-submit jobs/ingest_figures.py cc_chest/metadata.csv --format folder \\\n"
        "      --image-column filename --caption-column clinical_notes --licence-column license\n"
        "  reads the list and the images that it names; the same again changes nothing, a list\n"
        "  that changed replaces the rows that did; formats: docs/figures-deliveries.md",
    )
    made.add_argument("delivered", metavar="SOURCE", help="a list, an archive or a folder; any URL")
    made.add_argument("--format", required=True, choices=sorted(FORMATS), help="how it is laid out")
    made.add_argument(
        "--source",
        metavar="NAME",
        help="name of the corpus; a later delivery of the same name replaces its rows "
        "(default: SOURCE's name)",
    )
    made.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="PLACE",
        help="folders and zips of images (default: the list's folder and the zips in it)",
    )
    made.add_argument(
        "--encoding",
        metavar="NAME",
        help="of the lists (default: a byte order mark's; else UTF-8 or, where it is none, cp1252)",
    )
    for ours, meaning in _COLUMN_ARGUMENTS.items():
        made.add_argument(_option(ours), metavar="NAME", dest=f"column_{ours}", help=meaning)
    made.add_argument(
        "--reports", metavar="LIST", help="dicom: a list of files and their reports, as captions"
    )
    made.add_argument(
        "--max-image-mb",
        type=int,
        default=256,
        metavar="MB",
        help="larger images are left out and counted (default 256)",
    )
    made.add_argument(
        "--again", action="store_true", help="compare deliveries that are already there again"
    )
    return made


def _option(ours: str) -> str:
    return f"--{ours.removesuffix('_id').replace('published_', '')}-column"


def body(run: Run) -> Mapping[str, Any]:
    run.lake.check(FIGURE_DELIVERIES, FIGURES, QUESTIONS)
    request = _request(run)
    source = _source(run, request.source)
    try:
        with run.step("look at lists"):
            delivered = FORMATS[run.args.format](run.spark, request)
        outcome = ingest(run, delivered, source, run.args.format, again=run.args.again)
    except (DeliveryRefused, PySparkException, Py4JJavaError) as e:
        refused = said_refused(e)
        if refused is None:
            raise
        raise DataRefused(refused) from e
    total = sum(outcome.written.values(), Counts())
    run.rows.update(total.as_rows())
    run.wrote(FIGURES, QUESTIONS, FIGURE_DELIVERIES)
    _print_summary(run, delivered, outcome.written, outcome.same, total)
    return {
        "source": source,
        "deliveries_ingested": len(outcome.written),
        "deliveries_unchanged": len(outcome.same),
        "rows_by_problem": dict(sorted(total.problems.items())),
    }


def _request(run: Run) -> Request:
    if run.args.max_image_mb < 1 or run.args.max_image_mb > 1024:
        raise UsageError(f"--max-image-mb {run.args.max_image_mb}: must be 1 to 1024")
    if run.args.encoding:
        try:
            "".encode(run.args.encoding)
        except LookupError as e:
            raise UsageError(
                f"--encoding {run.args.encoding}: no such encoding; write utf-8, cp1252, utf-16"
            ) from e
    url, is_folder = place_of(run.spark, run.args.delivered)
    columns = {c: getattr(run.args, f"column_{c}") for c in _COLUMN_ARGUMENTS}
    given = {c: name for c, name in columns.items() if name}
    if given and run.args.format not in ("folder", "hf-parquet", "dicom"):
        raise UsageError(
            f"{', '.join(map(_option, given))}: --format {run.args.format} knows its columns"
        )
    return Request(
        source=url,
        is_folder=is_folder,
        images=tuple(run.args.images),
        encoding=run.args.encoding,
        columns=given,
        reports=run.args.reports and place_of(run.spark, run.args.reports)[0],
        patient_key=_patient_key() if run.args.format == "dicom" else None,
        limits=Limits(image_bytes=run.args.max_image_mb << 20),
    )


def _patient_key() -> bytes:
    from udfs.dicom.keys import checked_key  # its package is loaded for DICOM alone

    try:
        return checked_key(os.environ.get("ROUNDTRIP_PATIENT_KEY"))
    except ValueError as e:
        raise UsageError(
            f"{e}: export ROUNDTRIP_PATIENT_KEY=$(openssl rand -hex 32), and keep it: the same "
            "patient has another name under another key"
        ) from e


def _source(run: Run, url: str) -> str:
    """The corpus's name. Raises UsageError."""
    source = run.args.source
    if source is None and run.args.format == "dicom":
        raise UsageError(
            "--format dicom needs --source NAME: a folder of DICOM may be called by a patient, and "
            "the corpus's name is in every table"
        )
    source = source or _default_source(url)
    if not _SOURCE.fullmatch(source):
        raise UsageError(f"--source {source!r}: write letters, digits and . - _, such as pmc-oa")
    return str(source)


def _default_source(url: str) -> str:
    name = url.rstrip("/").rsplit("/", 1)[-1]
    stem = name[:1] + re.sub(r"(\.[A-Za-z]\w{0,8}){1,2}$", "", name[1:])
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "figures"


def _print_summary(
    run: Run,
    delivered: Delivered,
    written: Mapping[str, Counts],
    same: Sequence[str],
    total: Counts,
) -> None:
    print(
        f"\n{'delivery':<40} {'read':>11} = {'new':>11} + {'changed':>9} + {'unchanged':>11}"
        f" {'no image':>10} {'questions':>10}"
    )
    for unit, of in written.items():
        print(
            f"{unit.rstrip('/').rsplit('/', 1)[-1][-40:]:<40} {of.read:>11,} = {of.new:>11,} + "
            f"{of.changed:>9,} + {of.unchanged:>11,} {of.without_image:>10,} {of.questions:>10,}"
        )
    for unit in same:
        print(f"{unit.rsplit('/', 1)[-1][-40:]:<40} already in the lake; --again compares it anew")
    for reason, n in sorted(total.problems.items(), key=lambda x: (-x[1], x[0])):
        print(f"  {reason}: {n:,} rows{total.example(reason)}")
    for note in delivered.notes:
        print(f"  {note}")
    steps = ", ".join(f"{k} {v:.1f} s" for k, v in run.seconds.items())
    print(f"{steps}\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv, private=_private)


def _private(args: argparse.Namespace) -> tuple[str, ...]:
    """Folders of DICOM files are named after patients."""
    return ("delivered", "images", "reports") if args.format == "dicom" else ()


if __name__ == "__main__":
    sys.exit(main())

"""The questions of any Delta table, answered by a trained model: ml.answers.

One version of the table is read, and each of its rows is a row of the answers: with an answer and
how sure the model is of it, or with the reason why there is none. The same question of the same
model again replaces its rows. Nothing is scored: for that there is jobs/evaluate_vlm.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from jobs import amounts
from jobs.asked_table import asked_of
from jobs.evaluation import checkpoint_of
from jobs.lake import TABLE_NAME, quoted
from jobs.models_in_tasks import computed_once, handed_in_batches, partitions_of, place_of
from jobs.run import Run, parser, run_job
from jobs.trained_run import trained_run
from jobs.vlm_answers import answered_or_refused
from pipelines.errors import UsageError
from pipelines.figures.templates import built_in_templates, template
from schemas import ANSWERS, TABLES, VQA_EXAMPLES, Table

JOB = "answer_questions"


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Answer the questions of a Delta table with a trained model.",
        "  spark-submit jobs/answer_questions.py --lake lake --run 20260101-120000-gated \\\n"
        "      --table hospital/questions --key study --image picture --question asked\n"
        "  answers each row about its image, writes ml.answers, and says how many rows it could\n"
        "  not answer and why",
    )
    made.add_argument("--run", required=True, metavar="RUN_ID", help="training run, see ml.runs")
    made.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="another model of the run than the one that it left at its end",
    )
    made.add_argument(
        "--table",
        default=VQA_EXAMPLES.name,
        metavar="NAME|PATH",
        help="what to read: a table of the lake as layer.table, or a Delta table's path or URL "
        f"(default {VQA_EXAMPLES.name})",
    )
    made.add_argument(
        "--table-version", metavar="N", help="of that table: a number (default: its newest)"
    )
    made.add_argument(
        "--key",
        default="example_id",
        metavar="COLUMN",
        help="what tells its rows apart, text or a whole number (default example_id)",
    )
    made.add_argument(
        "--image",
        default="image",
        metavar="COLUMN",
        help="the image file: its bytes, or a struct with a field bytes (default image)",
    )
    made.add_argument(
        "--question", default="question", metavar="COLUMN", help="the text (default question)"
    )
    made.add_argument(
        "--out-table",
        default=ANSWERS.name,
        metavar="NAME",
        help=f"table of the lake to write, with the columns of {ANSWERS.name} (the default)",
    )
    made.add_argument(
        "--batch",
        type=amounts.count,
        default=16,
        metavar="ROWS",
        help="questions that a model answers at a time (default 16)",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    args = run.args
    out = _out_table(args.out_table)
    version = _number(args.table_version)
    trained = trained_run(run.lake, args.run)
    name = trained.template("vqa")
    if name is None:
        raise UsageError(f"run {args.run} has no stage on questions, so it cannot answer any")
    folder = trained.model(args.model)
    run.lake.check(out)
    with run.step("read questions"):
        asked = asked_of(run, version, template(built_in_templates(), "vqa", name))
    run.tables_in[asked.name] = asked.version
    identity = {
        "run_id": args.run,
        "checkpoint": checkpoint_of(folder),
        "table_name": asked.name,
        "table_version": asked.version,
    }
    shared = identity | {"template": name, "at": datetime.now(UTC)}
    where = " AND ".join(
        f"{column} = {value if isinstance(value, int) else quoted(value)}"
        for column, value in identity.items()
    )
    with run.step("answer questions"), handed_in_batches(run.spark, args.batch):
        rows = answered_or_refused(
            asked.rows,
            place_of(run.spark, folder, args.batch),
            partitions_of(run.spark, asked.count, args.batch),
        )
        columns = {column: F.lit(value) for column, value in shared.items()}
        columns["table_version"] = columns["table_version"].cast("bigint")
        with computed_once(rows.withColumns(columns)) as answers:
            run.lake.replace(out, answers, where)
    run.wrote(out)
    with run.step("count answers"):
        found = run.lake.read(out).where(where).groupBy("reason").count().collect()
    reasons = {row["reason"]: row["count"] for row in found}
    answered = reasons.pop(None, 0)
    refused = sum(reasons.values())
    run.rows |= {"read": asked.count, "answered": answered, "refused": refused}
    print(f"\n{asked.name} version {asked.version}, column {args.question} by {args.key}, asked of")
    print(f"run {args.run}, {identity['checkpoint']}")
    print(f"read {asked.count:,} = answered {answered:,} + refused {refused:,}")
    for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
        print(f"  {reason}: {count:,}")
    if asked.count != answered + refused:
        raise RuntimeError(
            f"{asked.count:,} rows were read, and {answered + refused:,} are in {out.name}"
        )
    return {"asked": identity, "out_table": out.name, "reasons": reasons}


def _out_table(name: str) -> Table:
    """ml.answers, or a table like it under another name."""
    if name == ANSWERS.name:
        return ANSWERS
    if not TABLE_NAME.fullmatch(name):
        raise UsageError(f"--out-table {name}: write layer.table, such as {ANSWERS.name}")
    if name in {table.name for table in TABLES}:
        raise UsageError(f"--out-table {name}: that table holds something else; name a new one")
    return replace(ANSWERS, name=name)


def _number(version: str | None) -> int | None:
    if version is not None and not version.isdecimal():
        raise UsageError(f"--table-version {version}: write a number")
    return None if version is None else int(version)


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

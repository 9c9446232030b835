"""A small Bloom with random weights, and a tokenizer of the lake's own texts: for demos and trials.

Where a pre-trained model is at hand, take that one: this one has not read a line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from jobs import amounts
from jobs.run import Run, parser, run_job
from pipelines.errors import UsageError
from schemas import VLM_EXAMPLES, VQA_EXAMPLES

JOB = "make_llm"

_TEXTS = ((VLM_EXAMPLES, ("text",)), (VQA_EXAMPLES, ("question", "answer")))


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Make a small language model (Bloom) with random weights, and a tokenizer trained on the "
        "captions, questions and answers of the training rows.",
        "  spark-submit jobs/make_llm.py --lake lake --out models/small-bloom\n"
        "  writes a folder that a recipe names as llm.path = 'small-bloom'",
    )
    made.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder")
    made.add_argument(
        "--hidden", type=amounts.count, default=128, metavar="N", help="width (default 128)"
    )
    made.add_argument(
        "--layers", type=amounts.count, default=4, metavar="N", help="layers (default 4)"
    )
    made.add_argument(
        "--heads", type=amounts.count, default=4, metavar="N", help="heads (default 4)"
    )
    made.add_argument(
        "--vocabulary",
        type=amounts.count,
        default=1024,
        metavar="N",
        help="entries at most (default 1024; 258 or more)",
    )
    made.add_argument("--seed", type=amounts.seed, default=1, metavar="S", help="(default 1)")
    return made


def body(run: Run) -> Mapping[str, Any]:
    from ml.models.made_llm import make_llm  # here: it takes seconds

    args = run.args
    with run.step("make"):
        parameters = make_llm(
            _texts(run),
            args.out.absolute(),
            hidden=args.hidden,
            layers=args.layers,
            heads=args.heads,
            vocabulary=args.vocabulary,
            seed=args.seed,
        )
    print(f"made a Bloom of {parameters:,} parameters in {args.out}")
    return {"out": str(args.out), "parameters": parameters}


def _texts(run: Run) -> Iterator[str]:
    """Every text of the training rows. Raises UsageError where there is none."""
    for table, columns in _TEXTS:
        if run.lake.version(table) is None:
            continue
        rows = run.read(table).where(F.col("split") == "train").select(*columns)
        for row in rows.toLocalIterator():
            run.rows[table.name] = run.rows.get(table.name, 0) + 1
            yield from row
    if not run.rows:
        names = " and ".join(table.name for table, _ in _TEXTS)
        raise UsageError(f"{names} have no training rows: run prepare_captions first")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

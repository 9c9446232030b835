"""A trained model as a Hugging Face folder, with a model card that is filled from the tables.

The language model, its tokenizer and, where its library has a format, the encoder load in a
process that does not know this project; all of it loads here. Nothing in the folder is code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.card_tables import known_of
from jobs.evaluation import checkpoint_of
from jobs.run import Run, log, parser, run_job
from jobs.trained_run import trained_run
from pipelines.errors import UsageError
from schemas import LEADERBOARD, METRICS, ML_RUNS, SCORES

JOB = "export_vlm"


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Export a trained model as a Hugging Face folder with a model card.",
        "  spark-submit jobs/export_vlm.py --lake lake --run 20260101-120000-gated --out gated\n"
        "  writes the model that the run left to gated/: llm/ for transformers, encoder/ for timm\n"
        "  or transformers, the fusion, and README.md with what the tables say of the run",
    )
    made.add_argument("--run", metavar="RUN_ID", help="training run, see ml.runs")
    made.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a model's folder: with --run another one than it left at its end, without --run any "
        "(its card tells what the tables say of the run that made it, if they know that)",
    )
    made.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder to write; only an earlier export is replaced",
    )
    made.add_argument(
        "--licence",
        metavar="ID",
        help="what the model is given away under, as the hub spells it, such as apache-2.0",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    from ml.models.export import check_target, export_model  # here: it takes seconds

    args = run.args
    check_target(args.out)
    folder, run_id = _model(run)
    run.lake.check(ML_RUNS, METRICS, SCORES, LEADERBOARD)
    with run.step("read tables"):
        known = known_of(run, run_id, checkpoint_of(folder))
    if not known.run:
        log(f"{ML_RUNS.name} does not know the run of {folder}: its card tells what the model does")
    with run.step("export"):
        done = export_model(folder, args.out, known, licence=args.licence)
    run.rows |= {"files": len(done.files), "parameters": done.parameters}
    print(f"\n{args.out}: {len(done.files)} files, {done.bytes / 1e6:,.1f} MB")
    print("README.md is the model card; nothing there is code or pickled\n")
    return {"training_run": run_id, "folder": str(args.out), "bytes": done.bytes}


def _model(run: Run) -> tuple[Path, str | None]:
    """The model's folder, and its run where that is known. UsageError where there is no model."""
    args = run.args
    if args.run is None and args.model is None:
        raise UsageError("--run RUN_ID or --model FOLDER says what to export")
    if args.run is not None:
        return trained_run(run.lake, args.run).model(args.model), args.run
    facts = args.model / "facts.json"
    if not facts.is_file():
        raise UsageError(f"no model at {args.model}: check --model")
    return args.model, json.loads(facts.read_text(encoding="utf-8")).get("run_id")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

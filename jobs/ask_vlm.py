"""A question about an image, answered by a trained model. It starts no Spark.

Exit codes are those of every job: 0, 2 for a wrong argument, 3 for an image that cannot be read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.parsing import Parser
from ml.training.runs import RunFolder, runs_of_lake
from pipelines.errors import EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, DataRefused, UsageError
from pipelines.figures.templates import built_in_templates, template

JOB = "ask_vlm"


def arguments() -> argparse.ArgumentParser:
    made = Parser(
        description="Answer a question about an image with a trained model.",
        epilog="example:\n"
        "  python jobs/ask_vlm.py chest.jpg 'Is the heart enlarged?' --run 20260101-120000-gated\n"
        "  prints the answer, and as JSON how sure the model is and what it was trained from",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("image", type=Path, metavar="IMAGE", help="a file")
    made.add_argument("question", metavar="QUESTION")
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="RUN_ID", help="the model of a training run")
    which.add_argument("--model", type=Path, metavar="FOLDER", help="a model's folder")
    made.add_argument(
        "--lake",
        metavar="DIR",
        default=os.environ.get("LAKE", "./lake"),
        help="where the run's folder lies, in .runs (environment LAKE; default ./lake)",
    )
    made.add_argument(
        "--runs", type=Path, metavar="DIR", help="where runs lie (default: .runs in the lake)"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    try:
        fields: Mapping[str, Any] = {"outcome": "done", **_ask(arguments().parse_args(argv))}
        code = EXIT_DONE
    except UsageError as e:
        fields, code = {"outcome": "usage", "error": str(e)}, EXIT_USAGE
    except DataRefused as e:
        fields, code = {"outcome": "refused", "error": str(e)}, EXIT_REFUSED
    if code:
        print(f"{JOB}: {fields['error']}", file=sys.stderr)
    print(json.dumps({"job": JOB, **fields}), flush=True)
    return code


def _ask(args: argparse.Namespace) -> dict[str, Any]:
    folder = args.model or RunFolder((args.runs or runs_of_lake(args.lake)) / args.run).model
    if not (folder / "recipe.json").is_file():
        raise UsageError(f"no model at {folder}: check --run, --lake and --runs, or --model")
    try:
        image = args.image.read_bytes()
    except OSError as e:
        raise UsageError(f"{args.image}: {e.strerror}") from e

    from ml.evaluation.answers import Answerer  # here: it takes seconds
    from ml.models.artefact import recipe_of_artefact

    names = [s.template for s in recipe_of_artefact(folder.absolute()).stages if s.data == "vqa"]
    if not names:
        raise UsageError(f"{folder}: its recipe has no stage on questions, so it cannot answer any")
    asked = template(built_in_templates(), "vqa", names[-1])
    prompt, _ = asked.texts({"question": args.question, "answer": ""})
    model = Answerer(folder)
    (answer,) = model.answers([image], [prompt])
    print(answer.text)
    return {"answer": answer.text, "confidence": answer.confidence, "model": model.facts}


if __name__ == "__main__":
    sys.exit(main())

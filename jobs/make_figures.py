"""Made figures with captions as files, for demos and for tests at any scale. Made, not real.

Needs no lake: it writes what `ingest_figures` reads, a thousand figures a file and task, and
beside it the truth: what each figure shows, copies, and what is wrong with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import amounts
from jobs.run import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, log
from jobs.session import SetupError, open_session
from pipelines.figures.made.files import FORMATS, volumes
from pipelines.figures.made.frame import written_questions, written_volumes
from pipelines.figures.made.plan import Order
from pipelines.files import write_whole

JOB = "make_figures"

_README = """\
These figures and captions are made, not real: a program drew and wrote them (roundtrip's
make_figures). No patient has ever had what they show.

Some are copies of others and some are broken on purpose, to show what the pipeline does with them;
truth/ says which. The same command makes the same files again:

  make_figures {arguments}
"""
_QUESTIONS_FILE = "VQA_RAD_Dataset_Public.json"
_IMAGES_A_TASK = 250


def arguments() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description="Make figures with captions as a medical corpus ships them. Made, not real.",
        epilog="example:\n"
        "  spark-submit jobs/make_figures.py --figures 20000 --out made\n"
        "  writes 20 tar shards to made/figures and their truth to made/truth; a figure depends\n"
        "  on the seed and the shares, not on how many there are",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the files, the same for all workers"
    )
    made.add_argument(
        "--figures", type=amounts.count, default=2000, metavar="N", help="how many (default 2000)"
    )
    made.add_argument(
        "--seed", type=amounts.seed, default=1, metavar="S", help="0 or more (default 1)"
    )
    made.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="tar shards, or lists of JSON lines with a folder of images for small numbers "
        "(default webdataset)",
    )
    default = Order()
    for name, what in (
        ("copy", "copies of earlier figures, of every sort alike: the same bytes, encoded anew, "
         "resized, cropped, brightened, the caption alone"),
        ("dirty", "figures with an odd image, of every kind alike"),
        ("dirty-caption", "figures with an odd caption, of every kind alike"),
        ("compound", "figures with 2 to 6 panels"),
    ):  # fmt: skip
        share = getattr(default, f"{name.replace('-', '_')}_share")
        made.add_argument(
            f"--{name}-share",
            type=amounts.share,
            default=share,
            metavar="X",
            help=f"share of {what} (default {share})",
        )
    made.add_argument(
        "--questions",
        type=_count_or_none,
        default=0,
        metavar="N",
        help="also N other images with questions and answers in vqa/, laid out as VQA-RAD is "
        "(default 0)",
    )
    return made


def _count_or_none(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count: write a whole number, 0 or more")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    start = time.perf_counter()
    fields: Mapping[str, Any] = {}
    error, code = None, EXIT_DONE
    try:
        order = Order(
            args.seed,
            args.copy_share,
            args.dirty_share,
            args.dirty_caption_share,
            args.compound_share,
        )
        if "://" in args.out:
            raise ValueError(
                f"{args.out} is no folder: figures are written to a local or mounted one"
            )
        folder = Path(args.out).absolute()
        _claim(folder, args)
        spark = open_session(f"roundtrip {JOB}")
        fields = _make(spark, order, folder, args)
    except ValueError as e:
        error, code = str(e), EXIT_USAGE
    except (OSError, SetupError) as e:
        error, code = f"{args.out}: {e}", EXIT_FAILED
    except PySparkException as e:
        lines = str(e).strip().splitlines()
        cause = next((x for x in reversed(lines) if "Error" in x), lines[0])
        error = f"{args.out}: {cause.strip()}: nothing half-written is left, run it again"
        code = EXIT_FAILED
    if error:
        log(f"{JOB}: {error}")
    seconds = round(time.perf_counter() - start, 3)
    outcome = {EXIT_DONE: "done", EXIT_FAILED: "failed", EXIT_USAGE: "usage"}[code]
    line = {
        "job": JOB,
        "outcome": outcome,
        **({"error": error} if error else {}),
        "made": True,
        **fields,
        "seconds": {"total": seconds},
    }
    print(json.dumps(line), flush=True)
    return code


def _claim(folder: Path, args: argparse.Namespace) -> None:
    """Write README.txt; where it tells of another command the figures would be mixed.

    Raises ValueError then.
    """
    again = " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in sorted(vars(args).items())
        if name != "out"
    )
    text = _README.format(arguments=f"{again} --out DIR")
    readme = folder / "README.txt"
    if readme.exists() and readme.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{folder} holds figures of another command, see its README.txt: name another folder "
            "or empty this one"
        )
    write_whole(readme, lambda out: out.write(text.encode()))


def _make(
    spark: SparkSession, order: Order, folder: Path, args: argparse.Namespace
) -> Mapping[str, Any]:
    """Write everything; a summary on standard output, the fields of the JSON line returned."""
    log(f"{JOB}: {args.figures:,} figures to {folder} ...")
    count = volumes(args.figures)
    numbers = spark.range(0, count, 1, count)
    written = written_volumes(
        numbers, order, count=args.figures, format_=args.format, folder=str(folder)
    ).collect()  # a row a file
    size = sum(row["bytes"] for row in written)
    truth = spark.read.parquet(
        *(str(folder / "truth" / f"{Path(row['path']).stem}.parquet") for row in written)
    )
    counts = {
        f"{name}_by_{'sort' if name == 'copies' else 'kind'}": _counts(truth, column)
        for name, column in (
            ("copies", "copy"),
            ("dirty_images", "image_dirt"),
            ("dirty_captions", "caption_dirt"),
            ("figures", "kind"),
        )
    }
    asked = _ask(spark, order, folder, args) if args.questions else {}
    print(f"made {args.figures:,} figures in {count:,} files ({size / 1e6:.1f} MB)")
    for name, by in counts.items():
        print(f"  {name.replace('_', ' ')}: {', '.join(f'{k} {n:,}' for k, n in by.items())}")
    return {"files": count, "figures": args.figures, "bytes": size, **counts, **asked}


def _counts(truth: DataFrame, column: str) -> dict[str, int]:
    known = truth.where(F.col(column).isNotNull()).groupBy(column).count()
    return {row[0]: row[1] for row in known.orderBy(column).collect()}


def _ask(
    spark: SparkSession, order: Order, folder: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Write the images with questions, and last the file that names them."""
    numbers = spark.range(0, args.questions, 1, -(-args.questions // _IMAGES_A_TASK))
    done = written_questions(numbers, order, figures=args.figures, folder=str(folder))
    rows = sorted(done.collect(), key=lambda row: row["image_name"])
    asked = [question for row in rows for question in json.loads(row["questions"])]
    text = json.dumps(asked, indent=1)
    write_whole(folder / "vqa" / _QUESTIONS_FILE, lambda out: out.write(text.encode()))
    copies = {row["image_name"]: row["copy_of"] for row in rows if row["copy_of"] is not None}
    truth = json.dumps({"copy_of": copies}, indent=1)
    write_whole(folder / "truth" / "vqa.json", lambda out: out.write(truth.encode()))
    kinds = Counter(question["answer_type"] for question in asked)
    return {
        "questions": {"images": len(rows), "copies": len(copies), **dict(sorted(kinds.items()))}
    }


if __name__ == "__main__":
    sys.exit(main())

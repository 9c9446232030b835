"""Delivered figures become examples to train from: decoded, cleaned, without copies, split.

Every stage is a table. The first three hold each figure in the revision that they have seen, so a
run does what is new or has changed; the later ones are decided anew for all examples and written
where they differ. So a run that is cut off anywhere is completed by the next, and a run over what
has been done changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import figure_stages as stages
from jobs.arguments import shares
from jobs.run import Run, parser, run_job
from jobs.session import settings
from jobs.table_rules import create_under
from pipelines.errors import UsageError
from pipelines.figures.examples import decided, examples_of
from pipelines.figures.images import READ_CONF
from pipelines.figures.page.html import captions_page
from pipelines.figures.page.story import Story, Took
from pipelines.figures.page_data import Tables, story_of
from pipelines.figures.pairs import DISTANCE
from pipelines.figures.splits import SHARES
from pipelines.figures.templates import built_in_templates, template
from pipelines.files import write_whole
from schemas import (
    FIGURE_CAPTIONS,
    FIGURE_GROUPS,
    FIGURE_IMAGES,
    FIGURE_PAIRS,
    FIGURE_QUESTIONS,
    FIGURES,
    IMAGE_CAPTIONS,
    IMAGE_CAPTIONS_REJECTED,
    QUESTIONS,
    TOKEN_IDS,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
)

JOB = "prepare_captions"

STAGES = (
    FIGURE_CAPTIONS,
    FIGURE_IMAGES,
    FIGURE_PAIRS,
    FIGURE_GROUPS,
    FIGURE_QUESTIONS,
    IMAGE_CAPTIONS,
    IMAGE_CAPTIONS_REJECTED,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
)
_DECODE = "decode images"
# Row groups of tables with images: some hundred images, so that a reader who wants one of them
# reads few others, and a small delivery still keeps several cores busy.
_ROW_GROUP_BYTES = 8 << 20
_CONF = {
    **READ_CONF,
    "parquet.block.size": str(_ROW_GROUP_BYTES),
    "spark.sql.files.maxPartitionBytes": str(_ROW_GROUP_BYTES),
    # Bytes of images that a Python worker is handed at a time.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
}


def arguments() -> argparse.ArgumentParser:
    made = parser(
        "Turn delivered figures into training examples, and draw a page of what became of them.",
        "  spark-submit jobs/prepare_captions.py --lake lake --page captions.html\n"
        "  decodes what is new, cleans captions, finds copies, splits without leaks, writes\n"
        "  gold.vlm_examples and gold.vqa_examples; run again it changes nothing",
    )
    made.add_argument(
        "--longest-side-px",
        type=int,
        default=512,
        metavar="PX",
        help="images are brought to it, none is upscaled (default 512)",
    )
    made.add_argument(
        "--encoding", choices=("jpeg", "png"), default="jpeg", help="of images (default jpeg)"
    )
    made.add_argument(
        "--distance",
        type=int,
        default=DISTANCE,
        metavar="BITS",
        help="images whose perceptual hashes differ by so many bits at most are compared by their "
        f"pixels (default {DISTANCE})",
    )
    made.add_argument(
        "--shares",
        type=shares,
        default=SHARES,
        metavar="A,B,C",
        help="of train, validation and test (default 0.8,0.1,0.1)",
    )
    made.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="folder of a Hugging Face tokenizer: writes gold.token_ids for it too",
    )
    made.add_argument(
        "--vqa-template",
        default="question_answer",
        metavar="NAME",
        help="with --tokenizer: the template of questions, as the recipes to come name it "
        "(default question_answer)",
    )
    made.add_argument(
        "--page",
        type=Path,
        default=Path("captions.html"),
        metavar="FILE",
        help="the page (default ./captions.html)",
    )
    made.add_argument(
        "--portion",
        type=int,
        default=20_000,
        metavar="FIGURES",
        help="images are written after about so many; what a cut-off run loses (default 20000)",
    )
    made.add_argument(
        "--anew",
        action="store_true",
        help="where tables were made with other sizes, distance or shares, make them anew",
    )
    return made


def body(run: Run) -> Mapping[str, Any]:
    _check(run)
    # Two at once would each append what the other decoded, too.
    with run.lake.folder.only_writer(FIGURE_IMAGES), settings(run.spark, _CONF):
        return _prepare(run)


def _prepare(run: Run) -> Mapping[str, Any]:
    args = run.args
    create_under(
        run.lake,
        FIGURE_IMAGES,
        {"longest_side_px": str(args.longest_side_px), "encoding": args.encoding},
        anew=args.anew,
        copied_to=(IMAGE_CAPTIONS, VLM_EXAMPLES, VQA_EXAMPLES),
    )
    create_under(
        run.lake,
        FIGURE_GROUPS,
        {"distance": str(args.distance), "shares": ",".join(f"{x:g}" for x in args.shares)},
        anew=args.anew,
    )
    figures = run.read(FIGURES)
    with run.step("clean captions"):
        stages.clean_captions(run, figures)
    with run.step(_DECODE):
        decoded = stages.decode_images(run, figures)
    with run.step("clean questions"):
        stages.clean_questions(run)
    examples = examples_of(figures, run.lake.read(FIGURE_CAPTIONS), run.lake.read(FIGURE_IMAGES))
    examples = examples.persist(StorageLevel.MEMORY_AND_DISK)
    with run.step("find copies"):
        stages.find_copies(run, examples)
    with run.step("group and split"):
        stages.group_and_split(run, examples)
    judged = decided(examples, run.lake.read(FIGURE_GROUPS)).persist(StorageLevel.MEMORY_AND_DISK)
    with run.step("write silver examples"):
        stages.write_silver(run, judged)
        run.rows.update(stages.counted(run, figures, judged))
    with run.step("check for leaks"):
        stages.refuse_leaks(run)
    with run.step("write training tables"):
        stages.write_gold(run, args.shares)
    if args.tokenizer:
        with run.step("write token ids"):
            stages.write_token_ids(run, args.tokenizer, args.vqa_template)
    run.wrote(*STAGES, *([TOKEN_IDS] if args.tokenizer else []))
    with run.step("draw the page"):
        story = _story(run, figures, decoded)
        write_whole(args.page, lambda file: file.write(captions_page(story).encode()))
    judged.unpersist()
    examples.unpersist()
    _print_summary(run, story)
    return {
        "page": str(args.page),
        "funnel": {stage.name: stage.left for stage in story.funnel},
        "rejected_by_reason": {r: n for stage in story.funnel for r, n in stage.dropped.items()},
    }


def _check(run: Run) -> None:
    args = run.args
    run.lake.check(FIGURES, QUESTIONS, *STAGES, TOKEN_IDS)
    if not run.lake.exists(FIGURES):
        raise UsageError(
            f"{FIGURES.name} is not in {run.lake.root}: run jobs/ingest_figures.py first, or check "
            "--lake"
        )
    if not 32 <= args.longest_side_px <= 4096:
        raise UsageError(f"--longest-side-px {args.longest_side_px}: must be 32 to 4096")
    if not 0 <= args.distance <= 10:
        raise UsageError(f"--distance {args.distance}: must be 0 to 10 bits, of 64")
    if args.portion < 1:
        raise UsageError(f"--portion {args.portion}: must be 1 or more")
    if args.tokenizer and not (args.tokenizer / "tokenizer.json").is_file():
        raise UsageError(f"--tokenizer {args.tokenizer}: has no tokenizer.json")
    template(built_in_templates(), "vqa", args.vqa_template)


def _story(run: Run, figures: DataFrame, decoded: int) -> Story:
    read = run.lake.read
    tables = Tables(
        figures=figures,
        captions=read(FIGURE_CAPTIONS),
        images=read(FIGURE_IMAGES),
        pairs=read(FIGURE_PAIRS),
        groups=read(FIGURE_GROUPS),
        accepted=read(IMAGE_CAPTIONS),
        rejected=read(IMAGE_CAPTIONS_REJECTED),
        vlm=read(VLM_EXAMPLES),
        vqa=read(VQA_EXAMPLES),
    )
    steps = {name: s for name, s in run.seconds.items() if name != "start"}
    took = [Took(n, seconds, decoded if n == _DECODE else None) for n, seconds in steps.items()]
    made = not figures.where(F.col("fields")["made"] == "true").isEmpty()
    versions = {FIGURES.name: run.tables_in[FIGURES.name], **run.tables_out}
    return story_of(tables, took=took, versions=versions, made=made)


def _print_summary(run: Run, story: Story) -> None:
    print(f"\n{'stage':<28} {'count':>12}")
    for stage in story.funnel:
        for reason, n in sorted(stage.dropped.items(), key=lambda x: (-x[1], x[0])):
            print(f"  {'- ' + reason:<26} {n:>12,}")
        print(f"{stage.name:<28} {stage.left:>12,} {stage.unit}")
    print(f"{'questions with answers':<28} {story.questions:>12,}")
    print(f"\n{'split':<12} {'groups':>10} {'examples':>10} {'questions':>10}")
    for split in story.splits:
        print(f"{split.name:<12} {split.groups:>10,} {split.examples:>10,} {split.questions:>10,}")
    for t in story.took:
        rate = f", {t.images:,} figures, {t.images / t.seconds:,.0f}/s" if t.images else ""
        print(f"{t.step}: {t.seconds:.1f} s{rate}")
    print(f"page: {run.args.page}\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run_job(JOB, arguments(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

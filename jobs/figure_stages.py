"""The stages of jobs/prepare_captions.py: what each reads, and how its table is brought up to date.

Captions and images are done for figures that are new or were delivered anew, in portions, each a
commit. What comes after is decided from slim columns for all examples and written where it differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.run import Run, log
from jobs.sync import sync
from pipelines.difference import difference
from pipelines.errors import DataRefused
from pipelines.figures.captions import captions_of
from pipelines.figures.examples import accepted, candidates, for_training, rejected, with_images
from pipelines.figures.groups import groups_of
from pipelines.figures.images import images_of
from pipelines.figures.pairs import pairs_of
from pipelines.figures.prompts import columns_of
from pipelines.figures.quality import copies_across_splits, examples_of_questions, splits_of_groups
from pipelines.figures.questions import questions_of
from pipelines.figures.stages import of_portion, outdated, portions, to_do
from pipelines.figures.templates import built_in_templates, template
from pipelines.figures.token_ids import text_hash, token_ids_of
from pipelines.figures.tokenizers import tokenizer_sha256
from pipelines.figures.vqa_examples import vqa_examples_of
from pipelines.quality import not_met
from schemas import (
    FIGURE_CAPTIONS,
    FIGURE_GROUPS,
    FIGURE_IMAGES,
    FIGURE_PAIRS,
    FIGURE_QUESTIONS,
    IMAGE_CAPTIONS,
    IMAGE_CAPTIONS_REJECTED,
    QUESTIONS,
    TOKEN_IDS,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
    Table,
)

# Examples of some ten thousand bytes: files of some hundred megabytes.
_EXAMPLES_A_FILE = 10_000
_SLIM_ROWS_A_FILE = 1_000_000


def clean_captions(run: Run, figures: DataFrame) -> None:
    """silver.figure_captions."""
    _each_figure(run, FIGURE_CAPTIONS, figures.drop("image"), captions_of)


def decode_images(run: Run, figures: DataFrame) -> int:
    """silver.figure_images; how many figures had to be done."""
    captions = run.lake.read(FIGURE_CAPTIONS)
    panels = captions.select("figure_id", "panel_captions").where(F.size("panel_captions") > 1)

    def rows_of(portion: DataFrame) -> DataFrame:
        return images_of(
            portion.join(F.broadcast(panels), "figure_id", "left"),
            longest_side_px=run.args.longest_side_px,
            encoding=run.args.encoding,
        )

    return _each_figure(run, FIGURE_IMAGES, figures, rows_of)


def clean_questions(run: Run) -> None:
    """silver.figure_questions."""
    run.lake.create(FIGURE_QUESTIONS)
    if not run.lake.exists(QUESTIONS):
        return
    want = FIGURE_QUESTIONS.conform(questions_of(run.read(QUESTIONS)))
    want = want.persist(StorageLevel.MEMORY_AND_DISK)
    sync(run.lake, FIGURE_QUESTIONS, want, lambda keys: want.join(keys, "question_id", "left_semi"))
    want.unpersist()


def find_copies(run: Run, examples: DataFrame) -> None:
    """silver.figure_pairs: new examples against one another and against those that were there.

    An example has been compared when silver.figure_groups has it.
    """
    lake = run.lake
    lake.create(FIGURE_PAIRS)
    seen = lake.read(FIGURE_GROUPS).select("example_id", "revision")
    alive = candidates(examples)
    new = alive.join(seen, ["example_id", "revision"], "left_anti")
    old = alive.join(seen, ["example_id", "revision"], "left_semi")
    # Pairs of what is gone or was delivered anew, and those that a cut-off run left.
    for side in ("example_id", "other_id"):
        named = lake.read(FIGURE_PAIRS).select(F.col(side).alias("example_id")).distinct()
        dead = named.join(old, "example_id", "left_anti")
        if not dead.isEmpty():
            lake.remove(FIGURE_PAIRS, dead.select(F.col("example_id").alias(side)))
    if not new.isEmpty():
        pairs = pairs_of(new, lake.read(FIGURE_IMAGES), old, distance=run.args.distance)
        lake.append(FIGURE_PAIRS, pairs)


def group_and_split(run: Run, examples: DataFrame) -> None:
    """silver.figure_groups, in one commit: a split that was given must not get lost on the way."""
    lake = run.lake
    version = lake.version(FIGURE_GROUPS)
    earlier = lake.read(FIGURE_GROUPS, version)
    want = groups_of(
        candidates(examples), lake.read(FIGURE_PAIRS), earlier, shares=run.args.shares
    ).persist(StorageLevel.MEMORY_AND_DISK)
    if not difference(earlier, want, FIGURE_GROUPS.key).isEmpty():
        files = _files_for(want, _SLIM_ROWS_A_FILE)
        lake.replace(FIGURE_GROUPS, want.repartition(files), "true")
    want.unpersist()


def write_silver(run: Run, judged: DataFrame) -> None:
    """silver.image_captions and silver.image_captions_rejected, from `decided` examples."""
    images = run.lake.read(FIGURE_IMAGES)
    kept, not_kept = accepted(judged), rejected(judged)
    sync(
        run.lake,
        IMAGE_CAPTIONS_REJECTED,
        not_kept,
        lambda keys: not_kept.join(keys, "example_id", "left_semi").repartition(
            _files_for(keys, _SLIM_ROWS_A_FILE)
        ),
    )
    sync(
        run.lake,
        IMAGE_CAPTIONS,
        kept,
        lambda keys: with_images(kept.join(keys, "example_id", "left_semi"), images).repartition(
            _files_for(keys, _EXAMPLES_A_FILE)
        ),
    )


def counted(run: Run, figures: DataFrame, judged: DataFrame) -> dict[str, int]:
    """How many figures were read and what became of their parts; RuntimeError if any is lost."""
    lake = run.lake
    only_asked = judged.where(F.col("is_vqa") & (F.size("reasons") == 0)).count()
    rows = {
        "read": figures.count(),
        "examples": lake.read(FIGURE_IMAGES).count(),
        "accepted": lake.read(IMAGE_CAPTIONS).count(),
        "rejected": lake.read(IMAGE_CAPTIONS_REJECTED).count(),
        "images_of_questions": only_asked,
    }
    of_figures = lake.read(FIGURE_IMAGES).select("figure_id").distinct().count()
    if rows["read"] != of_figures:
        raise RuntimeError(f"{rows['read']:,} figures were read, {of_figures:,} have images")
    if rows["examples"] != rows["accepted"] + rows["rejected"] + only_asked:
        raise RuntimeError(f"examples do not add up: {rows}")
    return rows


def refuse_leaks(run: Run) -> None:
    """Raises DataRefused, before the training tables change, where a split would leak."""
    groups, pairs = run.lake.read(FIGURE_GROUPS), run.lake.read(FIGURE_PAIRS)
    training = for_training(run.lake.read(IMAGE_CAPTIONS).drop("image"))
    batches = (
        splits_of_groups(groups),
        copies_across_splits(groups, pairs),
        examples_of_questions(training, groups),
    )
    if leaks := [line for batch in batches for line in not_met(batch)]:
        raise DataRefused(f"{'; '.join(leaks)} -- the training tables stay as they were")


def write_gold(run: Run, shares: Sequence[float]) -> None:
    """gold.vlm_examples and gold.vqa_examples."""
    lake = run.lake
    image_captions, images = lake.read(IMAGE_CAPTIONS), lake.read(FIGURE_IMAGES)
    sync(
        lake,
        VLM_EXAMPLES,
        for_training(image_captions.drop("image")),
        lambda keys: _in_order(
            for_training(image_captions.join(keys, "example_id", "left_semi")), keys
        ),
    )
    asked = vqa_examples_of(
        lake.read(FIGURE_QUESTIONS),
        images.drop("image"),
        lake.read(FIGURE_CAPTIONS),
        lake.read(FIGURE_GROUPS),
        shares=shares,
    )
    of_image = images.select(F.col("example_id").alias("image_id"), "revision", "image")
    sync(
        lake,
        VQA_EXAMPLES,
        asked,
        lambda keys: _in_order(
            asked.join(keys, "example_id", "left_semi").join(
                of_image, ["image_id", "revision"], "left"
            ),
            keys,
        ),
    )


def write_token_ids(run: Run, tokenizer: Path, vqa_template: str) -> None:
    """gold.token_ids of that tokenizer, for the texts of both training tables.

    Captions have no prompt: what stands before one is the same for all, and training adds it.
    """
    lake = run.lake
    sha256 = tokenizer_sha256(tokenizer)
    prompt, answer = columns_of(template(built_in_templates(), "vqa", vqa_template))
    captions = lake.read(VLM_EXAMPLES).select(
        "example_id", F.lit("").alias("prompt"), F.col("text").alias("answer")
    )
    asked = lake.read(VQA_EXAMPLES)
    texts = captions.unionAll(
        asked.select("example_id", prompt.alias("prompt"), answer.alias("answer"))
    )
    wanted = texts.select(
        "example_id", F.lit(sha256).alias("tokenizer_sha256"), text_hash().alias("text_hash")
    )
    lake.create(TOKEN_IDS)
    others = lake.read(TOKEN_IDS).where(F.col("tokenizer_sha256") != sha256)  # they stay
    wanted = wanted.unionAll(others.select(*wanted.columns))
    sync(
        lake,
        TOKEN_IDS,
        wanted,
        lambda keys: token_ids_of(
            texts.join(keys.select("example_id"), "example_id", "left_semi"), tokenizer
        ),
    )


def _each_figure(
    run: Run, table: Table, figures: DataFrame, rows_of: Callable[[DataFrame], DataFrame]
) -> int:
    """Bring the table to hold each figure in its present revision; how many had to be done."""
    lake = run.lake
    lake.create(table)
    gone = outdated(figures, lake.read(table))
    if not gone.isEmpty():
        lake.remove(table, gone)
    ids = to_do(figures, lake.read(table)).persist(StorageLevel.MEMORY_AND_DISK)
    sizes = sorted((r[0], r[1]) for r in ids.groupBy("delivery_id").count().collect())
    total, done, start = sum(n for _, n in sizes), 0, time.perf_counter()
    for names, count in portions(sizes, run.args.portion):
        lake.append(table, rows_of(of_portion(figures, names, ids)))
        done += count
        rate = done / (time.perf_counter() - start)
        log(
            f"{run.job}: {table.name}: {done:,} of {total:,} figures, {rate:,.0f}/s, "
            f"{(total - done) / rate:,.0f} s left"
        )
    ids.unpersist()
    return total


def _in_order(rows: DataFrame, keys: DataFrame) -> DataFrame:
    """Rows in files of about as many, each a stretch of the order in which they are read."""
    files = _files_for(keys, _EXAMPLES_A_FILE)
    return rows.repartitionByRange(files, "order_key").sortWithinPartitions("order_key")


def _files_for(rows: DataFrame, each: int) -> int:
    """Files for so many rows, about `each` in one; `rows` may be their keys, which cost less."""
    return max(1, -(-rows.count() // each))

"""What becomes of each example: kept, or rejected with every reason; and the training tables.

All but the last step are about slim columns, without the bytes of images: which rows a table
should have is decided anew for all examples, and only what differs is written (jobs/sync.py).
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas import IMAGE_CAPTIONS, IMAGE_CAPTIONS_REJECTED, VLM_EXAMPLES

_DICOM, _VQA = "dicom", "vqa"


def examples_of(figures: DataFrame, captions: DataFrame, images: DataFrame) -> DataFrame:
    """One row for each part of each figure that has passed both stages.

    `figures`, `captions` and `images` are bronze.figures, silver.figure_captions and
    silver.figure_images. Columns: those of `images` but its bytes and reasons, with `image_reasons`
    for those; of the figure `source`, `format`, `article_id`, `patient_id`, `licence`,
    `published_split`, `delivered_at`; `caption` (a panel's own), `modality`, `modality_evidence`,
    `caption_reasons`, `compound`, and `is_vqa`: it is there for its questions and needs no caption.
    """
    of_figure = figures.select(
        "figure_id",
        "revision",
        "source",
        "format",
        "article_id",
        "patient_id",
        "licence",
        "published_split",
        "delivered_at",
    )
    of_caption = captions.select(
        "figure_id",
        "revision",
        F.col("caption").alias("whole_caption"),
        "panel_captions",
        "modality",
        "modality_evidence",
        F.col("reasons").alias("caption_reasons"),
    )
    of_image = images.drop("image").withColumnRenamed("reasons", "image_reasons")
    is_vqa = F.col("format") == _VQA
    own = F.get("panel_captions", F.col("part") - 1)  # of a part from 1 on
    caption = F.when(F.col("kind") == "panel", own).otherwise(F.col("whole_caption"))
    return (
        of_image.join(of_figure, ["figure_id", "revision"])
        .join(of_caption, ["figure_id", "revision"])
        .withColumns(
            {
                "caption": caption,
                "is_vqa": is_vqa,
                "caption_reasons": F.when(is_vqa, _no_reasons()).otherwise(
                    F.col("caption_reasons")
                ),
                "compound": (F.col("kind") == "whole") & (F.col("panels_seen") > 1),
            }
        )
        .drop("whole_caption", "panel_captions")
    )


def candidates(examples: DataFrame) -> DataFrame:
    """The examples that may be trained from, if they are no copies: what groups are made of."""
    return examples.where((F.size("image_reasons") == 0) & (F.size("caption_reasons") == 0))


def decided(examples: DataFrame, groups: DataFrame) -> DataFrame:
    """`examples` with their groups and every reason against them.

    `groups` is silver.figure_groups. Adds group_id, split, fold, duplicate_of, near_vqa and
    `reasons`: of the image, of the caption, `duplicate` and `bridges_splits`.
    """
    of_group = groups.select(
        "example_id",
        "revision",
        "group_id",
        "split",
        "fold",
        "duplicate_of",
        "near_vqa",
        F.col("reasons").alias("group_reasons"),
    )
    duplicate = F.when(F.col("duplicate_of").isNotNull(), F.array(F.lit("duplicate")))
    reasons = F.concat(
        "image_reasons",
        "caption_reasons",
        F.coalesce("group_reasons", _no_reasons()),
        F.coalesce(duplicate, _no_reasons()),
    )
    return examples.join(of_group, ["example_id", "revision"], "left").withColumn(
        "reasons", F.array_sort(F.array_distinct(reasons))
    )


def accepted(decided_examples: DataFrame) -> DataFrame:
    """Rows of silver.image_captions, without their bytes."""
    kept = decided_examples.where((F.size("reasons") == 0) & ~F.col("is_vqa"))
    return kept.select(*[c.name for c in IMAGE_CAPTIONS.columns if c.name != "image"])


def rejected(decided_examples: DataFrame) -> DataFrame:
    """Rows of silver.image_captions_rejected."""
    return decided_examples.where(F.size("reasons") > 0).select(
        *[c.name for c in IMAGE_CAPTIONS_REJECTED.columns]
    )


def with_images(rows: DataFrame, images: DataFrame) -> DataFrame:
    """`rows`, which have example_id and revision, with the bytes that silver.figure_images has."""
    return rows.join(images.select("example_id", "revision", "image"), ["example_id", "revision"])


def for_training(image_captions: DataFrame) -> DataFrame:
    """Rows of gold.vlm_examples for those of silver.image_captions, with bytes where it has them.

    Not those whose image, or a copy of it, a vqa delivery holds: questions are asked about them.
    """
    made = {"text": F.col("caption"), "order_key": order_key("example_id")}
    names = [c.name for c in VLM_EXAMPLES.columns if c.name in {*image_captions.columns, *made}]
    return image_captions.where(~F.col("near_vqa")).withColumns(made).select(*names)


def order_key(example_id: str) -> Column:
    """Where an example lies in its table: neighbours have nothing to do with one another."""
    return F.xxhash64(example_id)


def _no_reasons() -> Column:
    return F.array().cast("array<string>")

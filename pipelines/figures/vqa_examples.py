"""Questions become training examples: with their image, in the split of its group."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.figures.examples import order_key
from pipelines.figures.modality import modality_of_questions
from pipelines.figures.splits import fold_of, split_of
from schemas import VQA_EXAMPLES


def vqa_examples_of(
    questions: DataFrame,
    images: DataFrame,
    captions: DataFrame,
    groups: DataFrame,
    *,
    shares: Sequence[float],
) -> DataFrame:
    """Rows of gold.vqa_examples, without the bytes of images.

    The tables are silver.figure_questions, silver.figure_images, silver.figure_captions (for the
    modality, which else is the one that the questions speak of) and silver.figure_groups. A
    question is asked about the whole figure. Where its image was not delivered or not decoded,
    `image_id` is NULL and the split follows from the figure itself, in `shares`: so a corpus that
    comes in two languages, or whose images come later, keeps the questions of an image together.
    Questions about an image that bridges splits are left out.
    """
    whole = F.col("part") == 0
    image = images.where(whole & (F.size("reasons") == 0)).select(
        "figure_id", F.col("example_id").alias("image_id"), "revision"
    )
    of_group = groups.select(F.col("example_id").alias("image_id"), "group_id", "split", "fold")
    asked = (
        questions.where(F.size("reasons") == 0)
        .join(image, "figure_id", "left")
        .join(of_group, "image_id", "left")
        .join(captions.select("figure_id", F.col("modality").alias("stated")), "figure_id", "left")
        .join(modality_of_questions(questions).select("figure_id", "modality"), "figure_id", "left")
    )
    is_alone = F.col("image_id").isNull()
    figure = F.xxhash64("figure_id", F.lit(0))  # the id that its image has or would have
    split = F.when(is_alone, split_of(figure, shares)).otherwise(F.col("split"))
    made = {
        "example_id": F.col("question_id"),
        "group_id": F.when(is_alone, figure).otherwise(F.col("group_id")),
        "fold": F.when(is_alone, fold_of(figure)).otherwise(F.col("fold")),
        "split": split,
        "modality": F.coalesce("stated", "modality"),
        "order_key": order_key("question_id"),
    }
    names = [c.name for c in VQA_EXAMPLES.columns if c.name != "image"]
    return asked.withColumns(made).where(F.col("split").isNotNull()).select(*names)

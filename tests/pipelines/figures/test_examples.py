"""What becomes of parts of figures, of questions, and of leaks: tables small enough to read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.figures.examples import (
    accepted,
    candidates,
    decided,
    examples_of,
    for_training,
    rejected,
)
from pipelines.figures.quality import (
    copies_across_splits,
    examples_of_questions,
    splits_of_groups,
)
from pipelines.figures.stages import outdated, portions, to_do
from pipelines.figures.vqa_examples import vqa_examples_of
from pipelines.quality import not_met
from schemas import (
    FIGURE_CAPTIONS,
    FIGURE_GROUPS,
    FIGURE_IMAGES,
    FIGURE_PAIRS,
    FIGURE_QUESTIONS,
    FIGURES,
    IMAGE_CAPTIONS,
    VLM_EXAMPLES,
)
from tests.figure_tables import frame

_GROUP: dict[str, Any] = {
    "figure_id": 0,
    "part": 0,
    "revision": 1,
    "fold": 0,
    "copies_id": 0,
    "near_vqa": False,
}
_GROUP |= {"reasons": []}


def figure(number: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "figure_id": number,
        "revision": 1,
        "source": "s",
        "record": f"r{number}",
    }
    row |= {
        "format": "folder",
        "delivery_id": "d",
        "delivered_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return row | more


def image(figure: int, part: int = 0, **more: Any) -> dict[str, Any]:
    kind = more.pop("kind", "whole")
    row: dict[str, Any] = {
        "figure_id": figure,
        "part": part,
        "example_id": 10 * figure + part,
        "revision": 1,
    }
    row |= {"kind": kind, "image": b"x", "width": 9, "height": 9, "entropy": 1.0, "reasons": []}
    return row | {"panels_seen": 1} | more


def caption(figure: int, text: str | None, *panels: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"figure_id": figure, "revision": 1, "caption": text, "mended": []}
    return row | {"panel_captions": list(panels), "reasons": []} | more


def group(example: int, split: str | None, **more: Any) -> dict[str, Any]:
    return _GROUP | {"example_id": example, "group_id": example, "split": split} | more


def question(number: int, figure: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "question_id": number,
        "figure_id": figure,
        "source": "s",
        "question": "where?",
    }
    return row | {"answer": "left", "closed": False, "language": "en", "reasons": []} | more


@pytest.fixture
def examples(spark: SparkSession) -> DataFrame:
    """1 is whole, 2 has two panels, 3 was not decoded, 4 has no caption, 5 has questions only."""
    figures = [*(figure(i) for i in range(1, 5)), figure(5, format="vqa")]
    captions = [
        caption(1, "A chest."),
        caption(2, "(A) A head. (B) A hand.", "A head.", "A hand."),
        caption(3, "A foot."),
        caption(4, None, reasons=["no_caption"]),
        caption(5, None, reasons=["no_caption"]),
    ]
    images = [
        image(1, panels_seen=2),
        image(2, 1, kind="panel"),
        image(2, 2, kind="panel"),
        image(3, image=None, reasons=["truncated"]),
        image(4),
        image(5),
    ]
    return examples_of(
        frame(spark, FIGURES, figures),
        frame(spark, FIGURE_CAPTIONS, captions),
        frame(spark, FIGURE_IMAGES, images),
    )


def test_each_part_is_kept_or_rejected_with_its_reason(
    spark: SparkSession, examples: DataFrame
) -> None:
    left = candidates(examples).select("example_id").orderBy("example_id").collect()
    assert [r[0] for r in left] == [10, 21, 22, 50]
    groups = [
        group(10, "train", near_vqa=True),
        group(21, "test"),
        group(22, "test", duplicate_of=21),
        group(50, "train", near_vqa=True),
    ]
    judged = decided(examples, frame(spark, FIGURE_GROUPS, groups))
    kept = accepted(judged).orderBy("example_id")
    assert set(kept.columns) == {c.name for c in IMAGE_CAPTIONS.columns} - {"image"}
    assert [tuple(r) for r in kept.select("example_id", "caption", "compound").collect()] == [
        (10, "A chest.", True),
        (21, "A head.", False),
    ]
    lost = rejected(judged).orderBy("example_id").select("example_id", "reasons", "duplicate_of")
    assert [tuple(r) for r in lost.collect()] == [
        (22, ["duplicate"], 21),
        (30, ["truncated"], None),
        (40, ["no_caption"], None),
    ]
    # 10 shows what questions are asked about: it is no training example of captions.
    training = for_training(kept.withColumn("image", F.lit(b"x")))
    assert training.columns == [c.name for c in VLM_EXAMPLES.columns]
    assert [r["text"] for r in training.collect()] == ["A head."]


def test_questions_are_in_the_split_of_their_image(spark: SparkSession) -> None:
    images = frame(spark, FIGURE_IMAGES, [image(1), image(2), image(3, image=None, reasons=["x"])])
    groups = frame(
        spark,
        FIGURE_GROUPS,
        [group(10, "test", fold=3), group(20, None, reasons=["bridges_splits"])],
    )
    captions = frame(spark, FIGURE_CAPTIONS, [caption(1, None, modality="mri", reasons=["none"])])
    asked = [
        question(1, 1),
        question(2, 2),
        question(3, 3, question="Is this a CT scan?", answer="yes"),
        question(4, 3, language="zh"),
        question(5, 1, reasons=["repeated"]),
    ]
    made = vqa_examples_of(
        frame(spark, FIGURE_QUESTIONS, asked), images, captions, groups, shares=(0.0, 0.0, 1.0)
    )
    found = made.orderBy("example_id").select("example_id", "image_id", "modality", "split")
    # 2 has an image that bridges splits; 3 and 4 are about one that was not decoded.
    assert [tuple(r) for r in found.collect()] == [
        (1, 10, "mri", "test"),
        (3, None, "ct", "test"),
        (4, None, "ct", "test"),
    ]
    alone = made.where("image_id IS NULL").select("group_id", "fold").distinct()
    assert alone.count() == 1


def test_leaks_are_told(spark: SparkSession) -> None:
    groups = frame(
        spark,
        FIGURE_GROUPS,
        [
            group(1, "train", group_id=1),
            group(2, "test", group_id=1, fold=1),
            group(3, "train", near_vqa=True),
            group(4, None, reasons=["bridges_splits"]),
        ],
    )
    pairs = frame(
        spark,
        FIGURE_PAIRS,
        [{"example_id": i, "other_id": j, "kind": "image"} for i, j in ((1, 2), (1, 4), (3, 4))],
    )
    training = groups.where("example_id = 3").withColumn("split", F.lit("test"))
    told = [
        *not_met(splits_of_groups(groups)),
        *not_met(copies_across_splits(groups, pairs)),
        *not_met(examples_of_questions(training, groups)),
    ]
    assert told == [
        "groups of figures: in_two_splits is 1, should be 0 to 0",
        "groups of figures: in_two_folds is 1, should be 0 to 0",
        "copies of figures: in_two_splits is 1, should be 0 to 0",
        "training examples and groups: near_vqa is 1, should be 0 to 0",
        "training examples and groups: in_another_split is 1, should be 0 to 0",
    ]
    whole = groups.where("example_id IN (1, 4)")
    assert not_met(splits_of_groups(whole)) == []
    assert not_met(copies_across_splits(whole, pairs)) == []


def test_a_stage_does_what_is_new_or_was_delivered_anew(spark: SparkSession) -> None:
    figures = frame(spark, FIGURES, [figure(i, revision=5) for i in (1, 2, 3)])
    there = frame(
        spark, FIGURE_CAPTIONS, [caption(1, "x", revision=5), caption(2, "x"), caption(9, "x")]
    )
    assert sorted(r[0] for r in to_do(figures, there).collect()) == [2, 3]
    assert sorted(r[0] for r in outdated(figures, there).collect()) == [2, 9]


def test_portions_are_whole_deliveries() -> None:
    sizes = [("a", 3), ("b", 4), ("c", 20), ("d", 1)]
    assert list(portions(sizes, 8)) == [(["a", "b"], 7), (["c"], 20), (["d"], 1)]
    assert list(portions([], 8)) == []

"""Which of several copies is kept, and what becomes of images that questions are about."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from pipelines.figures.groups import EXAMPLE, groups_of
from schemas.figures import FIGURE_PAIRS
from schemas.frames import frame_of
from tests.pipelines.figures.test_splits import example

pytestmark = pytest.mark.slow


def groups(
    spark: SparkSession, rows: list[tuple[Any, ...]], pairs: list[tuple[int, int, str]]
) -> dict[int, Any]:
    full = [(a, b, kind, 0 if kind != "caption" else None, None, None) for a, b, kind in pairs]
    frame = groups_of(frame_of(spark, rows, EXAMPLE), frame_of(spark, full, FIGURE_PAIRS.struct))
    return {row["example_id"]: row for row in frame.collect()}


def test_the_best_of_copies_is_kept(spark: SparkSession) -> None:
    found = groups(
        spark,
        [
            example(1, caption="a long caption, but a small image"),
            example(2, source_width=200, caption="short"),
            example(3, source_width=200, caption="longer"),
            example(4, source_width=200, caption="equal "),
            example(5, caption="the same caption"),
            example(6, caption="the same caption"),
        ],
        [(1, 2, "image"), (2, 3, "bytes"), (1, 4, "image"), (5, 6, "caption")],
    )
    assert {i: row["duplicate_of"] for i, row in found.items()} == {
        **{1: 3, 2: 3, 3: None, 4: 3},
        **{5: None, 6: None},  # the same caption makes no copy, but one group
    }
    assert {i: row["copies_id"] for i, row in found.items()} == {1: 1, 2: 1, 3: 1, 4: 1, 5: 5, 6: 6}
    assert found[5]["group_id"] == found[6]["group_id"]
    assert not any(row["near_vqa"] for row in found.values())


def test_images_of_questions_stay_and_mark_their_copies(spark: SparkSession) -> None:
    found = groups(
        spark,
        [
            example(1, format="vqa"),
            example(2, format="vqa"),
            example(3, caption="a", source_width=300),
            example(4, caption="b", source_width=200),
            example(5, caption="like that of 4"),
        ],
        [(1, 2, "image"), (2, 3, "image"), (1, 4, "image"), (4, 5, "caption")],
    )
    assert {i: row["duplicate_of"] for i, row in found.items()} == {
        1: None, 2: None, 3: None, 4: 3, 5: None,
    }  # fmt: skip
    assert {i for i, row in found.items() if row["near_vqa"]} == {1, 2, 3, 4}

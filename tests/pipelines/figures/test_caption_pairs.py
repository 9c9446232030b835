"""Captions that are nearly the same, found in Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from pipelines.figures.caption_pairs import caption_pairs
from schemas.frames import frame_of
from tests.udfs.test_minhash import plain_jaccard

pytestmark = pytest.mark.slow

CAPTIONS = "id BIGINT, caption STRING"
LONG = "Axial CT of the chest shows a nodule in the upper lobe of the left lung, biopsy proven."


def found(
    spark: SparkSession, new: list[tuple[Any, ...]], old: list[tuple[Any, ...]] | None = None
) -> dict[tuple[int, int], float]:
    frame = None if old is None else frame_of(spark, old, CAPTIONS)
    rows = caption_pairs(frame_of(spark, new, CAPTIONS), old=frame).collect()
    by_pair = {(row["id"], row["other_id"]): row["similarity"] for row in rows}
    assert len(by_pair) == len(rows), "a pair came twice"
    return by_pair


def test_what_counts_as_the_same(spark: SparkSession) -> None:
    pairs = found(
        spark,
        [
            (1, LONG),
            (2, LONG.upper().replace(",", ";")),  # case and punctuation do not count
            (3, LONG + " Arrow."),
            (4, "Axial MRI of the head shows nothing of the kind; contrast was given before it."),
            (5, "Chest X-ray"),
            (6, "chest x ray."),
            (7, "Chest X-rays"),  # short ones pair where their words are the same
            (8, "..."),
            (9, None),
        ],
    )
    assert pairs.keys() == {(1, 2), (1, 3), (5, 6)}
    assert (pairs[1, 2], pairs[5, 6]) == (1.0, 1.0)
    assert 0.9 < pairs[1, 3] < 1.0


def test_boilerplate_stays_linear(spark: SparkSession) -> None:
    count = 3000
    same = [(i, "Written informed consent was obtained from each patient.") for i in range(count)]
    numbered = [
        (count + i, f"{LONG} Written informed consent was obtained from the patient number {i}.")
        for i in range(count)
    ]
    pairs = found(spark, same + numbered)
    assert sum(a < count for a, _ in pairs) == count - 1
    assert count - 1 <= sum(a >= count for a, _ in pairs) <= 100 * count
    tied = {i for pair in pairs for i in pair}
    assert tied == set(range(2 * count))


def test_new_captions_meet_old_ones_and_old_ones_do_not_meet(spark: SparkSession) -> None:
    old = [(10, LONG), (11, LONG), (12, LONG + " Arrow.")]
    new = [(1, LONG), (2, LONG + " Arrow marks it."), (3, "Chest X-ray")]
    # 10 stands for those with its words.
    assert found(spark, new, old).keys() == {(1, 10), (2, 10), (2, 12)}


def test_all_pairs_of_distinct_texts_that_are_clearly_alike(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    texts = []
    for i in range(150):
        words = [f"w{n}" for n in rng.integers(0, 10**4, 60)]
        for _ in range(2):
            words = list(words)
            words[int(rng.integers(60))] = f"changed{i}"
            texts.append(" ".join(words))
    pairs = found(spark, list(enumerate(texts)))
    expected = {
        (i, j): similarity
        for i in range(len(texts))
        for j in range(i + 1, min(i + 3, len(texts)))
        if (similarity := plain_jaccard(texts[i], texts[j])) >= 0.8
    }
    assert len(expected) >= 140
    assert pairs == {pair: np.float32(s) for pair, s in expected.items()}

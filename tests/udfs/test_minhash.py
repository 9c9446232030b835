"""Shingles, signatures and similarities against sets of Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.minhash import band_hashes, jaccard, shingles, words

WORDS = st.sampled_from(["ct", "of", "the", "chest", "ä", "肺", "3"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=15).map(" ".join), min_size=1, max_size=8)


def sets_of(text: str) -> set[tuple[str, ...]]:
    words = text.split(" ")
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def plain_jaccard(a: str, b: str) -> float:
    shared, all_ = len(sets_of(a) & sets_of(b)), len(sets_of(a) | sets_of(b))
    return shared / all_ if all_ else 0.0


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_similarity_is_that_of_the_sets(a: list[str], b: list[str]) -> None:
    a, b = a[: len(b)], b[: len(a)]
    expected = [plain_jaccard(x, y) for x, y in zip(a, b, strict=True)]
    assert jaccard(pa.array(a), pa.array(b)).tolist() == pytest.approx(expected)


@settings(deadline=None)
@given(TEXTS)
def test_shingles_are_alike_where_their_words_are(texts: list[str]) -> None:
    made, counts = shingles(pa.array(texts))
    words = [
        w
        for text in texts
        if len(t := text.split(" ")) > 4
        for w in zip(*(t[i:] for i in range(5)), strict=False)
    ]
    assert counts.tolist() == [max(0, text.count(" ") - 3) for text in texts]
    assert (
        len(set(zip(made.tolist(), words, strict=True)))
        == len(set(words))
        == len(set(made.tolist()))
    )


def test_texts_meet_as_often_as_the_bands_promise() -> None:
    rng = np.random.default_rng(5)
    a = [[f"w{i}" for i in rng.integers(0, 10**6, 44)] for _ in range(3000)]
    b = [list(text) for text in a]
    for text in b:  # one word of the middle: five shingles of 40 differ, or 35 of 45 are shared
        text[20] = "other"
    sides = [pa.array([" ".join(text) for text in side]) for side in (a, b)]
    assert jaccard(*sides).mean() == pytest.approx(35 / 45)
    one, other = (band_hashes(*shingles(side)) for side in sides)
    promised = 1 - (1 - (35 / 45) ** 4) ** 14
    assert (one == other).any(axis=1).mean() == pytest.approx(promised, abs=0.005)
    assert (one == np.roll(other, 1, axis=0)).sum() == 0


def test_words_are_letters_and_digits_of_any_script() -> None:
    captions = ["  Fig. 3a: T2-weighted\tMRI\n", "ÄRZTE, 肺 ①", "...", "", None]
    assert words(pa.array(captions)).to_pylist() == [
        "fig 3a t2 weighted mri",
        "ärzte 肺 ①",
        None,
        None,
        None,
    ]


def test_hashes_are_those_of_any_machine() -> None:
    made, _ = shingles(pa.array(["a chest ct of the lung"]))
    assert made.tolist() == [7280662878826548148, 14870423470933069256]

"""The bootstrap by image: hand cases, and whether the interval covers what it says."""

from __future__ import annotations

import numpy as np
import pytest

from ml.evaluation.bootstrap import interval


def test_equal_scores_have_an_interval_of_no_width() -> None:
    assert interval([0.5] * 6, [1, 1, 2, 2, 3, 3]) == (0.5, 0.5)


def test_one_image_tells_nothing() -> None:
    assert interval([0, 1, 1], [7, 7, 7]) is None
    assert interval([], []) is None


def test_two_images() -> None:
    """Drawn twice of two: both 0, both 1, or one of each, so the ends are 0 and 1."""
    assert interval([0, 1], ["a", "b"]) == (0, 1)


def test_images_are_drawn_with_all_their_questions() -> None:
    """Image 1 has three right answers, image 2 one wrong one: 0, 3 / 4 or 1, nothing between."""
    ends = {interval([1, 1, 1, 0], [1, 1, 1, 2], level=level) for level in (0.95, 0.2)}
    assert ends == {(0, 1), (0.75, 0.75)}


def test_weights_make_it_a_ratio_of_sums() -> None:
    low, high = interval([-2, -6], [1, 2], weights=[1, 3]) or (0, 0)
    assert (low, high) == (-2, -2)  # both have -2 a token, however long they are


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).random(50)
    assert interval(values, np.arange(50), seed=3) == interval(values, np.arange(50), seed=3)
    assert interval(values, np.arange(50), seed=3) != interval(values, np.arange(50), seed=4)


def test_ids_beyond_32_bits_and_order_do_not_matter() -> None:
    values = np.random.default_rng(1).random(40)
    ids = np.repeat(np.arange(20) - (1 << 62), 2)
    turned = np.random.default_rng(2).permutation(40)
    assert interval(values, ids) == pytest.approx(interval(values[turned], ids[turned]))


@pytest.mark.parametrize(("by_image", "low", "high"), [(True, 0.91, 0.985), (False, 0.5, 0.85)])
def test_coverage(by_image: bool, low: float, high: float) -> None:
    """Of 400 made data sets, how many intervals hold the truth, 0.6.

    Images differ and their 5 questions are alike, so an interval that takes questions for
    independent is too narrow: that is what the clusters are for.
    """
    rng = np.random.default_rng(0)
    images, questions, held = 60, 5, 0
    for trial in range(400):
        chance = rng.beta(0.6, 0.4, images)  # of a right answer, by image: 0.6 in the mean
        right = rng.random((images, questions)) < chance[:, None]
        ids = np.arange(images * questions) // (questions if by_image else 1)
        ends = interval(right.ravel(), ids, seed=trial, resamples=500)
        assert ends is not None
        held += ends[0] <= 0.6 <= ends[1]
    assert low <= held / 400 <= high


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    easy = rng.random(300)  # both controls find the same questions easy
    right = (rng.random(300) < easy).astype(float)
    other = np.where(rng.random(300) < 0.1, 0.0, right)
    low, high = interval(right - other, np.arange(300)) or (0, 0)
    alone = interval(right, np.arange(300)) or (0, 0)
    assert 0 < low < np.mean(right - other) < high
    assert high - low < 0.7 * (alone[1] - alone[0])

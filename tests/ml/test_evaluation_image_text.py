"""Whether captions are found for their images."""

from __future__ import annotations

import numpy as np

from ml.evaluation.image_text import hits, retrieval_scores


def test_the_right_one_is_found_where_it_is_ahead() -> None:
    similarity = np.array([[3.0, 1, 2], [1, 2, 3], [1, 2, 0]])
    assert hits(similarity, 1).tolist() == [True, False, False]
    assert hits(similarity, 2).tolist() == [True, True, False]


def test_a_model_for_which_all_are_alike_or_nothing_finds_nothing() -> None:
    for likelihood in (0.0, np.nan):
        found = retrieval_scores(np.full((4, 4), likelihood), np.zeros(4))
        assert found
        assert [score.score for score in found] == [0] * len(found)


def test_one_caption_that_is_not_a_number_is_not_behind_the_right_one() -> None:
    similarity = np.array([[1.0, np.nan], [0, np.nan]])
    assert hits(similarity, 1).tolist() == [False, False]

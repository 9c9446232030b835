"""Controls on cases small enough to see what they must answer."""

from __future__ import annotations

import pytest

from ml.evaluation.controls import Asked, Majority, Retrieval, swapped

TRAINING = [
    Asked("Is there a fracture?", "Yes", True, "PRES"),
    Asked("Is there an effusion?", "no", True, "PRES"),
    Asked("Is the heart large?", "No", True, "PRES"),
    Asked("Is it a CT?", "No.", True, "PRES"),
    Asked("Which lung is affected?", "left lung", False, "POS"),
    Asked("Where is the mass?", "The left lung", False, "POS"),
    Asked("Where is the nodule?", "liver", False, "POS"),
    Asked("How many lesions?", "2", False, "COUNT"),
]


def test_majority_is_by_type_and_kind() -> None:
    majority = Majority(TRAINING)
    assert majority.answer(closed=True, question_type="PRES") == "No"  # three spellings, one wins
    assert majority.answer(closed=False, question_type="POS") == "The left lung"
    assert majority.answer(closed=False, question_type="COUNT") == "2"


def test_majority_of_a_type_that_training_lacks() -> None:
    majority = Majority(TRAINING)
    assert majority.answer(closed=False, question_type="SIZE") == "The left lung"
    assert majority.answer(closed=True, question_type=None) == "No"
    assert Majority(TRAINING[:4]).answer(closed=False, question_type="POS") == "No"
    assert Majority([]).answer(closed=False, question_type="POS") == ""


def test_retrieval_takes_the_nearest_question() -> None:
    retrieval = Retrieval(TRAINING)
    assert retrieval.answer("Is there a fracture here?") == "Yes"
    assert retrieval.answer("Where is a nodule") == "liver"
    assert retrieval.answer("How many masses? How many lesions?") == "2"
    assert retrieval.answer("Zzz") is None
    assert Retrieval([]).answer("Is there a fracture?") is None


def test_retrieval_weighs_rare_words_and_breaks_ties_by_order() -> None:
    training = [
        Asked("is there common", "first", False, None),
        Asked("is there rare", "second", False, None),
        Asked("is there common", "third", False, None),
    ]
    assert Retrieval(training).answer("rare common") == "second"
    assert Retrieval(training).answer("common") == "first"


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "sizes", [[1, 1], [1] * 7, [3, 2, 1], [5, 5], [4, 1, 1, 1, 1, 1, 1], [9, 1, 2], [50, 1]]
)
def test_a_swapped_image_is_of_another_group(sizes: list[int], seed: int) -> None:
    groups = [1000 + g for g, size in enumerate(sizes) for _ in range(size)]
    images = dict(enumerate(groups))
    given = swapped(images, seed=seed)
    assert set(given) == set(images)
    assert all(images[image] != images[other] for image, other in given.items())
    if 2 * max(sizes) <= sum(sizes):
        assert sorted(given.values()) == sorted(images)  # each once
    assert given == swapped(dict(reversed(images.items())), seed=seed)


def test_one_group_has_nothing_to_swap_with() -> None:
    assert swapped({1: 5, 2: 5}) == {}
    assert swapped({}) == {}


def test_the_swap_follows_from_the_seed() -> None:
    images = {i: i for i in range(30)}
    assert swapped(images, seed=0) != swapped(images, seed=1)

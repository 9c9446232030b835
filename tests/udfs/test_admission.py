"""Who may stay in a group that has members of several splits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from udfs.admission import admitted

TRAIN, TEST, NEW = "train", "test", None


def test_a_bridge_is_turned_away_and_ties_nobody() -> None:
    # 3 has ties to both; 4 hangs on 3 alone and is left by itself; 2 goes with train.
    splits = [TRAIN, TEST, NEW, NEW, NEW]
    ties = [(0, 2), (0, 3), (1, 3), (3, 4)]
    assert admitted(splits, ties, 5) == [0, 1, 0, None, 4]


def test_of_a_bridge_of_two_the_younger_goes() -> None:
    assert admitted([TRAIN, TEST, NEW, NEW], [(0, 2), (2, 3), (3, 1)], 4) == [0, 1, 0, None]


def test_what_is_shared_still_ties_the_others() -> None:
    # All new ones share article 6; the first is also a copy of one in train, 3 of one in test.
    splits = [TRAIN, TEST, NEW, NEW, NEW, NEW]
    ties = [(2, 6), (3, 6), (4, 6), (5, 6), (0, 2), (3, 1)]
    assert admitted(splits, ties, 6) == [0, 1, 0, None, 0, 0]


def test_members_of_one_article_in_two_splits_stay_apart() -> None:
    # They shared nothing when they came. A newcomer to the article would tie them.
    assert admitted([TRAIN, TEST, NEW], [(0, 3), (1, 3), (2, 3)], 3) == [0, 1, None]


@given(
    st.lists(st.sampled_from([TRAIN, TEST, NEW, NEW]), min_size=2, max_size=12).flatmap(
        lambda s: st.tuples(
            st.just(s),
            st.lists(st.tuples(st.integers(0, len(s) - 1), st.integers(0, len(s) + 2))),
        )
    )
)
def test_nothing_that_stays_is_tied_across_splits(
    world: tuple[list[str | None], list[tuple[int, int]]],
) -> None:
    splits, ties = world
    # As with pairs that were checked when their members came: old ones of two splits are not tied.
    two_splits = {TRAIN, TEST}
    ties = [
        (a, b) for a, b in ties if not (b < len(splits) and {splits[a], splits[b]} == two_splits)
    ]
    least = admitted(splits, ties, len(splits))
    assert all(of is not None for of, split in zip(least, splits, strict=True) if split)
    split_of: dict[int, set[str]] = {}
    for of, split in zip(least, splits, strict=True):
        if of is not None and split:
            split_of.setdefault(of, set()).add(split)
    assert all(len(found) == 1 for found in split_of.values())
    for a, b in ties:  # ties of those that stay hold
        if b < len(splits) and least[a] is not None and least[b] is not None:
            assert least[a] == least[b]

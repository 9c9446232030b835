"""How well the feed's order mixes examples, measured; and what of a table it keeps in memory."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ml.feed.index import Index
from ml.feed.order import (
    CLASS_RATIO,
    ORDER,
    SHORT_BYTES,
    WINDOW_BYTES,
    Order,
    length_class,
    share,
)

GROUPS, ROWS = 160, 300
GLOBAL_BATCH = 32


def index(group_bytes: int) -> Index:
    """A table of `GROUPS` row groups of 16 each in a file, of `ROWS` rows each."""
    return Index(
        np.repeat(np.arange(GROUPS, dtype=np.int32), ROWS),
        np.tile(np.arange(ROWS, dtype=np.int32), GROUPS),
        tuple((group // 16, group % 16) for group in range(GROUPS)),
        np.full(GROUPS, group_bytes, np.int64),
    )


def order(group_bytes: int, seed: int = 0) -> Order:
    lengths = np.random.default_rng(1).integers(1, 200, GROUPS * ROWS)
    return Order(index(group_bytes), seed, "hash", GLOBAL_BATCH, lambda rows: lengths[rows])


def epoch(of: Order, number: int = 0) -> np.ndarray:
    steps = GROUPS * ROWS // GLOBAL_BATCH
    return np.array([of.batch(number * steps + i)[0] for i in range(steps)])


def test_a_table_in_one_window_is_permuted_as_a_whole() -> None:
    batches = epoch(order(WINDOW_BYTES // GROUPS))
    rows = batches.ravel()
    assert np.array_equal(np.sort(rows), np.arange(GROUPS * ROWS))
    # Of a random permutation: rank correlation 0 ± 3 / sqrt(n), neighbours from one row group as
    # often as chance has it, row groups in a batch as many as 32 draws of 160 give, 29.0.
    assert abs(np.corrcoef(rows, np.arange(len(rows)))[0, 1]) < 3 / np.sqrt(len(rows))
    group = rows // ROWS
    assert (group[1:] == group[:-1]).mean() == pytest.approx(1 / GROUPS, abs=0.0015)
    in_batch = [len(set(batch // ROWS)) for batch in batches]
    assert np.mean(in_batch) == pytest.approx(160 * (1 - (1 - 1 / 160) ** 32), abs=0.2)


def test_the_order_is_the_one_that_checkpoints_name() -> None:
    rows = np.concatenate([order(8 << 20).batch(i)[0] for i in (0, 1, 1499, 1500, 20_000)])
    of = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16]
    # Where this differs ORDER has to be raised: runs that are under way would get other batches.
    assert (ORDER, of) == (1, "df0c3dc5b821c50f")


@pytest.mark.parametrize(("group_bytes", "window"), [(8 << 20, 80), (128 << 20, 4)])
def test_a_larger_table_is_mixed_a_window_at_a_time(group_bytes: int, window: int) -> None:
    of = order(group_bytes)
    batches = epoch(of)
    assert np.array_equal(np.sort(batches.ravel()), np.arange(GROUPS * ROWS))
    in_batch = [len(set(batch // ROWS)) for batch in batches]
    expected = window * (1 - (1 - 1 / window) ** GLOBAL_BATCH)
    # Batches about the border of two windows hold row groups of both.
    assert 0.97 * expected < np.mean(in_batch) < 1.4 * expected
    # No more row groups are near a batch than two windows have.
    near = [len(of.groups_near(i)) for i in range(len(batches))]
    assert window <= np.mean(near) < 1.5 * window
    assert max(near) <= 2 * window
    # Windows are other row groups in each epoch.
    assert of.groups_near(0) != of.groups_near(len(batches) + 1)
    assert not np.array_equal(epoch(of, 1), batches)


def test_short_texts_of_one_length_do_not_come_together() -> None:
    # Forty questions asked of many images, each of a length of its own, as templates make them.
    lengths = 20 + np.arange(GROUPS * ROWS) % 40
    batches = epoch(Order(index(8 << 20), 0, "hash", GLOBAL_BATCH, lambda rows: lengths[rows]))
    in_batch = [len(set(lengths[batch].tolist())) for batch in batches]
    # As 32 draws of 40 give; sorted by the exact length it would be 3 or 4.
    assert np.mean(in_batch) == pytest.approx(40 * (1 - (1 - 1 / 40) ** 32), abs=0.3)


def test_longer_texts_come_with_those_of_about_their_length() -> None:
    of = Order(index(8 << 20), 0, "hash", GLOBAL_BATCH, lambda rows: 200 + rows % 1800)
    lengths = [200 + batch % 1800 for batch in epoch(of)]
    padded = sum(len(mine) * mine.max() for mine in lengths) / sum(mine.sum() for mine in lengths)
    assert padded < 1.2  # 1.8 where batches are made without regard to length


def test_a_class_of_lengths_reaches_a_quarter_further_than_the_one_before() -> None:
    assert CLASS_RATIO == 1.25
    lengths = np.array([0, 1, SHORT_BYTES, SHORT_BYTES + 1, 80, 81, 100, 101])
    assert length_class(lengths).tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


def test_the_order_is_the_same_wherever_it_is_entered() -> None:
    number = 3 * GROUPS * ROWS // GLOBAL_BATCH + 7
    entered = order(8 << 20)
    walked = order(8 << 20)
    for i in range(number):
        walked.batch(i)
    for i in range(number, number + 40):
        for one, other in zip(entered.batch(i), walked.batch(i), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize(("world", "times_read"), [(1, 1), (2, 1.4), (8, 3.2), (32, 9.5)])
def test_ranks_share_a_batch_evenly_and_by_row_group(world: int, times_read: float) -> None:
    of = order(8 << 20)
    read = [set[int]() for _ in range(world)]
    for number in range(750):  # a window of 80 row groups
        rows, _ = of.batch(number)
        parts = [share(rows, of.index.group, rank, world) for rank in range(world)]
        assert sorted(np.concatenate(parts).tolist()) == list(range(GLOBAL_BATCH))
        assert {len(part) for part in parts} <= {GLOBAL_BATCH // world, -(-GLOBAL_BATCH // world)}
        for rank, part in enumerate(parts):
            read[rank].update(of.index.group[rows[part]].tolist())
    groups = len(set().union(*read))
    assert sum(map(len, read)) <= groups * times_read  # `world` where shares are drawn at random

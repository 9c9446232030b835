"""Pairs of hashes in Spark: against brute force, with equal hashes as stars, old and new."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import SparkSession

from pipelines.figures import hamming
from pipelines.figures.hamming import pairs_within
from schemas.frames import frame_of

pytestmark = pytest.mark.slow

HASHES = "id BIGINT, hash BIGINT"


def made_hashes(count: int, seed: int) -> list[tuple[int, int]]:
    """Distinct hashes with ids in no order; every fifth near another."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(-(2**63), 2**63, count, np.int64)
    for i in range(0, count - 1, 5):
        flips = rng.choice(64, int(rng.integers(1, 12)), replace=False)
        hashes[i + 1] = hashes[i] ^ np.bitwise_xor.reduce(
            np.uint64(1) << flips.astype(np.uint64)
        ).view(np.int64)
    ids = rng.permutation(count) * 7 - 1000
    return list(zip(ids.tolist(), hashes.tolist(), strict=True))


def brute_force(rows: list[tuple[int, int]], distance: int) -> set[tuple[int, int, int]]:
    ids = np.array([r[0] for r in rows])
    hashes = np.array([r[1] for r in rows])
    apart = np.bitwise_count((hashes[:, None] ^ hashes[None, :]).view(np.uint64))
    near = np.nonzero((apart <= distance) & (ids[:, None] < ids[None, :]))
    return {(int(ids[i]), int(ids[j]), int(apart[i, j])) for i, j in zip(*near, strict=True)}


@pytest.mark.parametrize("distance", [1, 5, 8])
def test_distinct_hashes_as_brute_force(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, distance: int
) -> None:
    monkeypatch.setattr(hamming, "_PER_PART", 1500)  # so that bands are cut in parts
    rows = made_hashes(2000, seed=distance)
    found = pairs_within(frame_of(spark, rows, HASHES), distance=distance).collect()
    assert len(set(found)) == len(found)
    expected = brute_force(rows, distance)
    assert {tuple(r) for r in found} == expected
    assert len(expected) > 20


def test_new_hashes_meet_old_ones_and_old_ones_do_not_meet(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hamming, "_PER_PART", 1500)
    rows = made_hashes(2000, seed=9)
    new, old = rows[::3], rows[1::3] + rows[2::3]
    frames = (frame_of(spark, part, HASHES) for part in (new, old))
    found = pairs_within(next(frames), distance=6, old=next(frames)).collect()
    among_old = {p[:2] for p in brute_force(old, 6)}
    expected = {p for p in brute_force(rows, 6) if p[:2] not in among_old}
    assert {tuple(r) for r in found} == expected
    assert len(found) == len(expected)


def test_equal_hashes_are_stars_of_linear_size(spark: SparkSession) -> None:
    # 5 is an old one, and so before the lesser new ones.
    new = frame_of(spark, [(i, 77) for i in (1, 2, 3)] + [(9, 76), (8, None)], HASHES)
    old = frame_of(spark, [(5, 77), (6, 77)], HASHES)
    assert sorted(map(tuple, pairs_within(new, distance=1, old=old).collect())) == [
        (1, 5, 0),
        (2, 5, 0),
        (3, 5, 0),
        (5, 9, 1),  # 77 and 76 differ in one bit
    ]
    found = sorted(map(tuple, pairs_within(new, distance=2, old=old, chances=2).collect()))
    # The two old ones are the chances of each new one.
    assert found == [
        (1, 5, 0),
        (1, 6, 0),
        (2, 5, 0),
        (2, 6, 0),
        (3, 5, 0),
        (3, 6, 0),
        (5, 9, 1),
        (6, 9, 1),
    ]


def test_more_chances_than_rows_pair_all_once(spark: SparkSession) -> None:
    rows = frame_of(spark, [(i, 0) for i in (4, 1, 3)], HASHES)
    found = pairs_within(rows, distance=0, chances=3).collect()
    assert sorted(map(tuple, found)) == [(1, 3, 0), (1, 4, 0), (3, 4, 0)]


@pytest.mark.parametrize("distance", [-1, 11])
def test_a_distance_out_of_range_is_refused(spark: SparkSession, distance: int) -> None:
    with pytest.raises(ValueError, match="should be 0 to 10 bits"):
        pairs_within(frame_of(spark, [], HASHES), distance=distance)

"""Every two hashes within the distance meet once, whatever the bands, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import hamming
from udfs.hamming import bands_for, pairs_among, pairs_between

UINT64 = st.integers(0, 2**64 - 1)


@st.composite
def near_hashes(draw: st.DrawFn) -> np.ndarray:
    """Distinct hashes of which many are near others, spread over all bits or over a few."""
    seed = draw(st.integers(0, 2**32))
    spread = draw(st.sampled_from([64, 40, 24]))
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, draw(st.integers(1, 40)), np.uint64)
    flips = rng.integers(0, spread, (draw(st.integers(0, 12)), 300)).astype(np.uint64)
    noise = np.bitwise_xor.reduce(np.uint64(1) << flips, axis=0)
    return np.unique(np.append(rng.choice(centres, 300) ^ noise, centres))


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few hashes take the ways that many take: tables, giant buckets, chunks."""
    monkeypatch.setattr(hamming, "_ALL_WITH_ALL", 2048)
    monkeypatch.setattr(hamming, "_MANY", 40)
    monkeypatch.setattr(hamming, "_CHUNK", 1000)


def as_set(pairs: tuple[np.ndarray, np.ndarray]) -> set[tuple[int, ...]]:
    rows = list(zip(*(side.tolist() for side in pairs), strict=True))
    assert len({frozenset(r) for r in rows}) == len(rows), "a pair came twice"
    return set(rows)


@pytest.mark.usefixtures("small_limits")
@settings(max_examples=300, deadline=None)
@given(hashes=near_hashes(), distance=st.integers(0, 10))
def test_pairs_among_are_those_of_brute_force(hashes: np.ndarray, distance: int) -> None:
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    here, there = np.nonzero(np.triu(apart <= distance, 1))
    found = as_set(pairs_among(hashes, distance))
    assert {tuple(sorted(p)) for p in found} == set(zip(here.tolist(), there.tolist(), strict=True))


@pytest.mark.usefixtures("small_limits")
@settings(max_examples=300, deadline=None)
@given(hashes=near_hashes(), distance=st.integers(0, 10), cut=st.floats(0.05, 0.95))
def test_pairs_between_are_those_of_brute_force(
    hashes: np.ndarray, distance: int, cut: float
) -> None:
    mixed = np.random.default_rng(1).permutation(hashes)
    a, b = np.split(mixed, [int(cut * len(mixed))])
    near = np.nonzero(np.bitwise_count(a[:, None] ^ b[None, :]) <= distance)
    rows = list(zip(*(s.tolist() for s in pairs_between(a, b, distance)), strict=True))
    assert len(set(rows)) == len(rows)
    assert set(rows) == set(zip(*(side.tolist() for side in near), strict=True))


@given(count=st.integers(0, 10**8), distance=st.integers(0, 10), width=st.integers(11, 64))
def test_bands_leave_no_way_to_differ_unseen(count: int, distance: int, width: int) -> None:
    bands = bands_for(count, distance, width)
    ends = [band.start + band.bits for band in bands]
    assert all(end <= band.start for end, band in zip(ends, bands[1:], strict=False))
    assert ends[-1] <= width
    # Were each band to differ in one bit more than its radius, that would be too many bits. A
    # band that may differ in all its bits always matches.
    always = any(band.radius == band.bits for band in bands)
    assert always or sum(band.radius + 1 for band in bands) > distance


def test_a_giant_bucket_is_searched_by_its_other_bits() -> None:
    # 60 000 hashes that share their highest 32 bits: all with all would be 1.8 billion pairs.
    rng = np.random.default_rng(3)
    low = np.unique(rng.integers(0, 2**32, 60_000, np.uint64))
    hashes = low | np.uint64(0xABCD << 32)
    flipped = hashes[:500] ^ np.uint64(0b101 << 40)
    hashes = np.unique(np.concatenate([hashes, flipped]))
    here, there = pairs_among(hashes, 2)
    assert len(here) >= 500
    assert (np.bitwise_count(hashes[here] ^ hashes[there]) <= 2).all()


def test_hashes_alike_in_most_bits_are_not_searched_over_and_over() -> None:
    # All in one bucket of each band, and in one of each band within that: 9 bands, six deep.
    rng = np.random.default_rng(4)
    flips = rng.integers(0, 24, (6, 5000)).astype(np.uint64)
    hashes = np.unique(np.bitwise_xor.reduce(np.uint64(1) << flips, axis=0))
    assert len(hashes) > 4200  # more than are compared all with all at once
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    here, _ = pairs_among(hashes, 10)
    assert len(here) == np.count_nonzero(np.triu(apart <= 10, 1))

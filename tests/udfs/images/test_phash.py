"""Perceptual hashes stay where pictures look alike, and differ where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.made_images import smooth
from udfs.images.phash import bits_apart, phash, phash_of_squares, square


def _picture(seed: int) -> np.ndarray:
    return np.asarray(smooth(seed, 300, 200, gray=True))


def _apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(bits_apart(np.array([phash(one)]), np.array([phash(other)]))[0])


def test_hash_is_a_known_number_on_every_machine() -> None:
    y, x = np.mgrid[:64, :96]
    rings = ((x - 30) ** 2 + 3 * (y - 20) ** 2 + 40 * x) // 50 % 256

    assert phash(rings.astype(np.uint8)) == -6_184_896_758_298_258_006


def test_many_at_once_equal_one_by_one() -> None:
    pictures = [_picture(seed) for seed in range(20)]

    together = phash_of_squares(np.stack([square(p) for p in pictures]))

    assert together.tolist() == [phash(p) for p in pictures]


@pytest.mark.parametrize("seed", range(5))
def test_another_size_or_brightness_moves_few_bits(seed: int) -> None:
    picture = _picture(seed)
    smaller = np.asarray(Image.fromarray(picture).resize((150, 100), Image.Resampling.LANCZOS))
    brighter = np.clip(picture.astype(int) * 0.8 + 40, 0, 255).astype(np.uint8)

    assert _apart(picture, smaller) <= 2
    assert _apart(picture, brighter) <= 4


def test_different_pictures_are_far_apart() -> None:
    hashes = np.array([phash(_picture(seed)) for seed in range(40)])
    distances = bits_apart(hashes[:, None], hashes[None, :])[np.triu_indices(40, 1)]

    assert distances.min() > 10
    assert 28 < distances.mean() < 36


def test_a_constant_picture_sets_no_bit_by_rounding_errors() -> None:
    assert {phash(np.full((50, 70), v, np.uint8)) for v in (3, 101, 254)} == {-(2**63)}

"""What vector code makes of a picture is what Pillow makes of it, on any processor."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from tests.made_images import smooth
from udfs.images import resized as module
from udfs.images.resized import Window, resized

with_vector_code = pytest.mark.skipif(
    module.vectorised is None, reason="cykooz.resizer has no wheel for this machine"
)
SIZES = ((333, 222), (500, 31), (40, 30), (1, 1))


@with_vector_code
@pytest.mark.parametrize("gray", [True, False], ids=["gray", "RGB"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", get_args(Window))
def test_a_machine_without_vector_code_makes_the_same_picture(
    size: tuple[int, int], gray: bool, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.asarray(smooth(3, 500, 333, gray=gray))

    quick = resized(pixels, *size, window)
    monkeypatch.setattr(module, "vectorised", None)
    slow = resized(pixels, *size, window)

    assert quick.shape == slow.shape == (size[1], size[0], *pixels.shape[2:])
    assert quick.dtype == slow.dtype == np.uint8
    apart = np.abs(quick.astype(int) - slow)
    assert int(apart.max()) <= 2
    assert float(apart.mean()) < 0.1


@with_vector_code
@pytest.mark.parametrize("window", get_args(Window))
def test_every_instruction_set_rounds_alike(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (301, 407), dtype=np.uint8)
    plain = module.vectorised.Resizer()
    plain.cpu_extensions = module.vectorised.CpuExtensions.none
    quick = resized(noise, 201, 144, window)

    monkeypatch.setattr(module.vectorised, "Resizer", lambda: plain)

    assert (quick == resized(noise, 201, 144, window)).all()


def test_a_part_of_an_array_is_taken_as_it_is_seen() -> None:
    pixels = np.asarray(smooth(4, 120, 90))

    cut = resized(pixels[10:70, 5:105], 50, 30)

    assert (cut == resized(np.ascontiguousarray(pixels[10:70, 5:105]), 50, 30)).all()

"""Parts of a figure: their size, what is measured of them, and panels cut from compound figures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.made_images import saved, smooth
from udfs.images.decode import Limits
from udfs.images.measures import entropy_bits, histogram
from udfs.images.normalised import is_gray, normalised
from udfs.images.parts import Part, Rules, parts_of
from udfs.images.phash import bits_apart, phash


def _part(content: bytes | None, rules: Rules = Rules(), captions: int = 0) -> Part:  # noqa: B008
    (part,) = parts_of(content, "folder", captions, rules)
    return part


def _opened(part: Part) -> Image.Image:
    assert part.image is not None
    return Image.open(io.BytesIO(part.image))


def test_a_figure_becomes_a_part() -> None:
    part = _part(saved(smooth(1, 900, 600), "PNG"))

    image = _opened(part)
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (512, 341))
    assert (part.width, part.height) == image.size
    assert (part.source_width, part.source_height) == (900, 600)
    assert (part.part, part.kind, part.panels_seen, part.reasons) == (0, "whole", 1, ())
    assert part.codecs is not None
    assert part.codecs.startswith("Pillow")
    assert ", simplejpeg" in part.codecs


def test_gray_in_colours_is_kept_as_gray() -> None:
    shown = smooth(1, 300, 200, gray=True)

    part = _part(saved(shown.convert("RGB"), "JPEG"))

    assert _opened(part).mode == "L"
    assert part.source_mode == "RGB"


def test_one_coloured_mark_keeps_the_colours() -> None:
    shown = smooth(1, 300, 200, gray=True).convert("RGB")
    shown.paste("red", (100, 101, 106, 105))

    assert _opened(_part(saved(shown, "PNG"))).mode == "RGB"


def test_png_keeps_every_pixel() -> None:
    shown = smooth(1, 300, 200)

    part = _part(saved(shown, "TIFF"), Rules(encoding="png"))

    assert _opened(part).format == "PNG"
    assert (np.asarray(_opened(part)) == np.asarray(shown)).all()


@given(
    width=st.integers(8, 700),
    height=st.integers(8, 700),
    longest=st.integers(8, 600),
    kind=st.sampled_from(["JPEG", "PNG"]),
)
@settings(max_examples=60, deadline=None)
def test_never_upscaled_and_the_aspect_is_kept(
    width: int, height: int, longest: int, kind: str
) -> None:
    part = _part(saved(smooth(1, width, height), kind), Rules(longest_side_px=longest))

    scale = min(1.0, longest / max(width, height))
    if min(round(width * scale), round(height * scale)) < 8:
        assert part.reasons == ("too_small",)
        return
    assert part.width is not None
    assert part.height is not None
    assert max(part.width, part.height) == min(longest, max(width, height))
    assert abs(part.width - width * scale) <= 0.5
    assert abs(part.height - height * scale) <= 0.5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("seed", range(4))
def test_the_hash_is_that_of_the_picture_not_of_the_file(kind: str, seed: int) -> None:
    hashes = [_part(saved(smooth(seed, *size), kind)).phash for size in ((1500, 1000), (700, 467))]
    shown = phash(np.asarray(smooth(seed, 900, 600, gray=True)))

    assert (bits_apart(np.array(hashes, np.int64), np.array([shown])) <= 2).all()


def test_small_detail_does_not_alias() -> None:
    """A fine checkerboard is gray from afar; sampling without antialias makes stripes of it."""
    fine = (np.indices((1000, 1000)).sum(axis=0) % 2 * 255).astype(np.uint8)

    small = normalised(fine, 300)

    assert small.shape == (300, 300)
    assert int(small.max()) - int(small.min()) < 40


@pytest.mark.parametrize(
    "blank",
    [
        Image.new("L", (90, 60), 0),
        Image.new("RGB", (90, 60), "white"),
        Image.fromarray(np.random.default_rng(1).integers(250, 255, (60, 90), dtype=np.uint8)),
        Image.fromarray(np.full((60, 90), 5000, np.uint16)),
    ],
    ids=["black", "white", "noise of a scanner", "16 bits"],
)
def test_a_blank_image_is_rejected(blank: Image.Image) -> None:
    part = _part(saved(blank, "PNG"))

    assert part.reasons == ("blank",)
    assert part.image is None
    assert (part.source_width, part.source_height) == (90, 60)


def test_thin_lines_on_white_are_not_blank() -> None:
    drawing = Image.new("L", (400, 300), 255)
    drawing.paste(0, (40, 40, 360, 43))

    assert _part(saved(drawing, "PNG")).reasons == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "missing_image"), (b"", "empty_file"), (b"text", "not_an_image")],
)
def test_a_figure_without_picture_has_one_part_that_says_why(
    content: bytes | None, reason: str
) -> None:
    assert parts_of(content, "folder", 3, Rules()) == [Part(reasons=(reason,))]


def test_the_limit_of_pixels_is_the_rules() -> None:
    rules = Rules(limits=Limits(most_pixels=100))

    assert _part(saved(smooth(1), "JPEG"), rules).reasons == ("too_many_pixels",)


def test_entropy_is_in_bits() -> None:
    four = np.tile(np.array([0, 50, 100, 200], np.uint8), (40, 10))

    assert entropy_bits(histogram(four)) == 2.0
    assert entropy_bits(histogram(np.zeros((9, 9), np.uint8))) == 0.0


@pytest.mark.parametrize("width", [8, 9, 10, 64])
def test_gray_is_seen_at_any_width(width: int) -> None:
    gray = np.asarray(smooth(1, width, 40, gray=True).convert("RGB"))
    tinted = gray.copy()
    tinted[:, -1, 2] ^= 64  # the last column of blue

    assert is_gray(gray)
    assert not is_gray(tinted)

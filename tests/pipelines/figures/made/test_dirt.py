"""Each kind of dirt is what its name says, as Pillow finds it."""

from __future__ import annotations

import ast
import io
import random
import re
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.figures.made.dirt import (
    BOMB_SIDE_PX,
    CAPTION_DIRT,
    CAPTION_FLAWS,
    IMAGE_DIRT,
    IMAGE_FLAWS,
)
from pipelines.figures.made.draw import draw
from pipelines.figures.made.scenes import Scene

pytestmark = pytest.mark.slow

_PIXELS = draw(
    Scene("retina", {"side": "left", "finding": "exudates", "count": 5}),
    np.random.Generator(np.random.SFC64(2)),
)
_GRAY = np.ascontiguousarray(_PIXELS[..., 0])
_SIZE = (_PIXELS.shape[1], _PIXELS.shape[0])


def _dirty(kind: str, number: int = 12, *, gray: bool = False) -> tuple[str, bytes]:
    change = {**IMAGE_DIRT, **IMAGE_FLAWS}[kind]
    ending, data = change(_GRAY if gray else _PIXELS, number, random.Random(4))
    assert data is not None
    return ending, data


def _opened(kind: str, *, gray: bool = False) -> Image.Image:
    return Image.open(io.BytesIO(_dirty(kind, gray=gray)[1]))


def test_broken_files_do_not_open_or_do_not_load() -> None:
    with pytest.raises(OSError, match="truncated"):
        _opened("truncated").load()
    with pytest.raises(UnidentifiedImageError):
        _opened("not_an_image")
    assert _dirty("zero_bytes")[1] == b""
    assert IMAGE_DIRT["missing_image"](_PIXELS, 1, random.Random(1)) == ("jpg", None)


def test_a_bomb_is_small_as_a_file_and_whole_but_too_large_to_decode() -> None:
    data = _dirty("decompression_bomb")[1]
    assert len(data) < 100_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert data != _dirty("decompression_bomb", number=13)[1]  # else they were copies


def test_a_bomb_decodes_where_nobody_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    image = _opened("decompression_bomb")
    assert image.size == (BOMB_SIDE_PX, BOMB_SIDE_PX)
    image.load()


def test_an_extension_is_wrong_either_way() -> None:
    found = set()
    for n in range(20):
        ending, data = IMAGE_FLAWS["wrong_extension"](_PIXELS, n, random.Random(n))
        image = Image.open(io.BytesIO(data or b""))
        image.load()
        found.add((ending, image.format))
    assert found == {("png", "JPEG"), ("jpg", "PNG")}


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize(
    ("kind", "format_", "mode"),
    [
        ("animated_gif", "GIF", None),
        ("multi_page_tiff", "TIFF", None),
        ("png_16_bit", "PNG", "I;16"),
        ("float_tiff", "TIFF", "F"),
        ("cmyk_jpeg", "JPEG", "CMYK"),
        ("palette_alpha", "PNG", "P"),
    ],
)
def test_odd_formats_load_as_what_they_are(
    kind: str, format_: str, mode: str | None, gray: bool
) -> None:
    image = _opened(kind, gray=gray)
    image.load()
    assert image.format == format_
    assert image.size == _SIZE
    assert mode in (None, image.mode)
    frames = {"animated_gif": 3, "multi_page_tiff": 2}.get(kind, 1)
    assert getattr(image, "n_frames", 1) == frames
    assert ("transparency" in image.info) is (kind == "palette_alpha")


def test_a_16_bit_image_uses_more_than_8_bits() -> None:
    values = np.asarray(_opened("png_16_bit"))
    assert values.max() > 255
    assert len(np.unique(values)) > 100


def test_a_rotated_image_is_upright_again_by_its_tag() -> None:
    image = _opened("exif_rotated")
    assert image.size == _SIZE[::-1]
    upright = ImageOps.exif_transpose(image)
    assert upright.size == _SIZE
    difference = np.abs(np.asarray(upright, dtype=int) - _PIXELS.astype(int))
    assert difference.mean() < 6


def test_one_pixel_and_blank() -> None:
    assert _opened("one_pixel").size == (1, 1)
    blank = _opened("blank")
    assert blank.size == _SIZE
    assert all(low == high for low, high in np.atleast_2d(blank.getextrema()))


def test_captions_are_odd_as_their_kind_says() -> None:
    text, name = "CT of the liver of a man aged 60 years.", "PMC1_Fig1_000000001.jpg"

    def of(kind: str) -> list[str | None]:
        change = {**CAPTION_DIRT, **CAPTION_FLAWS}[kind]
        return [change(text, name, random.Random(n)) for n in range(12)]

    assert all(c and len(c) < 42 and c not in text for c in of("placeholder"))
    assert all(c is None or not c.strip() for c in of("empty"))
    assert of("file_name") == [name] * 12
    assert all(re.search(r"[\u4e00-\u9fff]{5}", c or "") for c in of("chinese"))
    assert all(re.search(r" (einem|einer|der) ", c or "") for c in of("german"))
    assert all(re.search(r" (de|du|le) ", c or "") for c in of("french"))
    assert [ast.literal_eval(c or "") for c in of("stringified_list")] == [[text]] * 12
    assert all(re.sub("<[^>]+>", "", c or "").startswith(text) for c in of("html"))


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for change in (*IMAGE_DIRT.values(), *IMAGE_FLAWS.values()):
            for pixels in (_PIXELS, _GRAY):
                change(pixels, 1, random.Random(1))

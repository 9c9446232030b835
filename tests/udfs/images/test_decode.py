"""Every kind of image decodes to what it shows; what cannot be decoded says why."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.made_images import files_of_every_kind, saved, smooth
from udfs.images.decode import Limits, Picture, Rejected, decode

EVERY_KIND = files_of_every_kind()
_ORIENTATION = 0x0112


def _why_not(content: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Rejected) as rejected:
        decode(content, limits=limits)
    return rejected.value.reason


def _off(picture: Picture, shown: Image.Image) -> float:
    """Mean difference in gray values between what came out and what should."""
    mode = "L" if picture.pixels.ndim == 2 else "RGB"
    return float(np.abs(picture.pixels.astype(int) - np.asarray(shown.convert(mode))).mean())


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_shows_what_was_saved(kind: str) -> None:
    picture = decode(EVERY_KIND[kind])

    is_spread = any(word in kind for word in ("bits", "float"))
    shown = smooth(1, gray="gray" in kind)
    if is_spread:  # its darkest value becomes black, its lightest white
        gray = np.asarray(shown.convert("L")).astype(float)
        gray = (gray - gray.min()) / (gray.max() - gray.min()) * 255
        shown = Image.fromarray(gray.astype(np.uint8))
    assert picture.pixels.dtype == np.uint8
    assert (picture.source_width_px, picture.source_height_px) == (64, 48)
    assert kind.replace(" ", "").startswith(picture.source_format)
    assert _off(picture, shown) < (15 if picture.source_mode == "P" else 7)


def test_codec_and_mode_are_told() -> None:
    assert decode(EVERY_KIND["JPEG"]).codec == f"simplejpeg {simplejpeg.__version__}"
    assert "libtiff" in decode(EVERY_KIND["TIFF, LZW"]).codec
    assert decode(EVERY_KIND["JPEG, CMYK"]).source_mode == "CMYK"
    assert decode(EVERY_KIND["PNG, 16 bits"]).source_mode == "I;16"


def test_cmyk_of_adobe_is_inverted() -> None:
    inks = 255 - np.asarray(smooth(1).convert("CMYK"))
    content = simplejpeg.encode_jpeg(np.ascontiguousarray(inks), 95, "CMYK")
    assert b"Adobe" in content

    assert _off(decode(content), smooth(1)) < 7


def test_palette_with_alpha_lies_on_white() -> None:
    image = smooth(1).convert("P", palette=Image.Palette.ADAPTIVE)
    picture = decode(saved(image, "PNG", transparency=bytes(256)))

    assert picture.source_mode == "P"
    assert (picture.pixels == 255).all()


def test_half_transparent_black_is_gray() -> None:
    picture = decode(saved(Image.new("RGBA", (20, 10), (0, 0, 0, 128)), "PNG"))

    assert np.unique(picture.pixels).tolist() == [127]


def test_one_transparent_colour_becomes_white() -> None:
    image = smooth(1, gray=True).point(lambda v: 0 if v < 100 else 200)
    picture = decode(saved(image, "PNG", transparency=0))

    assert np.unique(picture.pixels).tolist() == [200, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(kind: str, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # each undoes what EXIF's number tells a viewer to do
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = smooth(1)
    lying = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation

    picture = decode(saved(lying, kind, exif=exif, **({} if kind == "TIFF" else {"quality": 95})))

    assert (picture.source_width_px, picture.source_height_px) == (64, 48)
    assert _off(picture, upright) < 6


@pytest.mark.parametrize("bad", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff"])
def test_exif_that_cannot_be_read_says_nothing(bad: bytes) -> None:
    assert _off(decode(saved(smooth(1), "JPEG", exif=bad, quality=95)), smooth(1)) < 6


@pytest.mark.parametrize("enough_px", [16, 100, 500, 900, 1100])
def test_a_jpeg_comes_smaller_but_never_below_what_is_enough(enough_px: int) -> None:
    picture = decode(saved(smooth(1, 1001, 700), "JPEG"), enough_px=enough_px)

    longest = max(picture.pixels.shape)
    assert longest >= min(enough_px, 1001)
    assert longest < 2 * enough_px or longest <= 1001 // 8 + 1
    assert (picture.source_width_px, picture.source_height_px) == (1001, 700)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"\0" * 1000, "not_an_image"),
        (b"<html>404 Not Found</html>", "not_an_image"),
        (b"%PDF-1.4", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not_an_image"),
        (b"\xff\xd8\xff\xe0\0\4 not a JPEG after all", "corrupt"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (saved(smooth(1, 1, 1), "PNG"), "too_small"),
        (saved(smooth(1, 1, 1), "JPEG"), "too_small"),
        (saved(smooth(1, 900, 7), "TIFF"), "too_small"),
        (saved(Image.new("LAB", (30, 30)), "TIFF"), "unsupported_mode"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_does_not_decode_says_why(content: bytes, reason: str) -> None:
    assert _why_not(content) == reason


@pytest.mark.parametrize("kind", ["JPEG", "JPEG, CMYK", "PNG", "GIF, animated", "BMP", "WEBP"])
def test_half_a_file_is_truncated_or_corrupt(kind: str) -> None:
    half = EVERY_KIND[kind][: len(EVERY_KIND[kind]) // 3]

    assert _why_not(half) == ("corrupt" if kind == "WEBP" else "truncated")


def test_wrong_codes_in_a_jpeg_are_corrupt() -> None:
    content = bytearray(saved(smooth(1, 400, 300), "JPEG"))
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)

    assert _why_not(bytes(content)) == "corrupt"


def test_bytes_after_the_end_do_no_harm() -> None:
    assert _off(decode(EVERY_KIND["JPEG"] + b"junk" * 99), smooth(1)) < 6


def test_a_bomb_is_not_decoded() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
    bomb = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")

    assert _why_not(bomb) == "too_many_pixels"


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_limit_of_pixels_holds_for_every_kind(kind: str) -> None:
    assert _why_not(EVERY_KIND[kind], Limits(most_pixels=64 * 48 - 1)) == "too_many_pixels"


def test_floats_that_are_no_numbers_are_black() -> None:
    values = np.linspace(-3e38, 3e38, 400, dtype=np.float32).reshape(20, 20).copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    picture = decode(saved(Image.fromarray(values), "TIFF"))

    assert picture.pixels[0, :3].tolist() == [0, 0, 0]
    assert picture.pixels[-1, -1] == 255
    assert (np.diff(picture.pixels.ravel()[3:].astype(int)) >= 0).all()

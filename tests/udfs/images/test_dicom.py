"""DICOM files become the pictures that a viewer shows."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing

from tests.made_dicom import RAMP, encapsulated, made, reason_of, shown
from tests.real_dicom import FRAMES_OR_REASON, real_dicom
from udfs.images import dicom
from udfs.images.dicom import frames_of, iter_frames
from udfs.images.picture import Rejected

SAYS_NO: dict[str, Any] = {"BurnedInAnnotation": "NO"}


@pytest.mark.parametrize("name", FRAMES_OR_REASON)
def test_every_real_file_gives_its_frames_or_a_reason(shared_data: Path, name: str) -> None:
    content, expected = real_dicom(shared_data, name), FRAMES_OR_REASON[name]
    if isinstance(expected, str):
        assert reason_of(content) == expected
        return
    pictures = frames_of(content)
    assert len(pictures) == expected
    header = dcmread(BytesIO(content), force=True)
    for picture in pictures:
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.shape == (header.Rows, header.Columns)
        assert picture.pixels.flags.c_contiguous
        assert (picture.source_width_px, picture.source_height_px) == (header.Columns, header.Rows)
        assert picture.source_format == "DICOM"
        assert picture.source_mode == f"{header.PhotometricInterpretation};{header.BitsStored}"
        assert picture.codec.startswith("pydicom 3")
        assert np.ptp(picture.pixels) > 0


def test_one_picture_in_six_transfer_syntaxes(shared_data: Path) -> None:
    names = [n for n in FRAMES_OR_REASON if n.startswith("MR_small")]
    pictures = [shown(real_dicom(shared_data, n)) for n in names]
    assert len(pictures) == 6
    assert all(np.array_equal(p, pictures[0]) for p in pictures)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR2_J2KI.dcm",
        "bad_sequence.dcm",
        "RG3_J2KI.dcm",
        "series/77654033/CR1/6154",
    ],
)
def test_windows_are_those_of_pydicom(shared_data: Path, name: str) -> None:
    """Within a gray level of another implementation, which has its range from the stored bits."""
    content = real_dicom(shared_data, name)
    header = dcmread(BytesIO(content))
    slope, intercept = (
        float(header.get("RescaleSlope", 1)),
        float(header.get("RescaleIntercept", 0)),
    )
    values = apply_windowing(apply_modality_lut(header.pixel_array, header), header)
    lowest = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
    low, high = (v * slope + intercept for v in (lowest, lowest + 2**header.BitsStored - 1))
    expected = (values - low) / (high - low) * 255
    if header.PhotometricInterpretation == "MONOCHROME1":
        expected = 255 - expected
    assert np.abs(shown(content) - expected).max() <= 1


def test_decoders_of_what_is_held_back(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose pictures are never drawn have the transfer syntaxes that others share."""
    monkeypatch.setattr(dicom, "quarantine_reason", lambda dataset: None)
    for name in ("gdcm-US-ALOKA-16.dcm", "OBXXXX1A_rle.dcm"):
        content = real_dicom(shared_data, name)
        header = dcmread(BytesIO(content))
        colours = apply_color_lut(header.pixel_array, header)
        assert np.abs(shown(content).astype(int) - colours / 257).max() <= 1
    lossless, at_12_bits = (
        shown(real_dicom(shared_data, n)).astype(float) for n in ("JPEG-LL.dcm", "JPGExtended.dcm")
    )
    assert np.corrcoef(lossless.ravel(), at_12_bits.ravel())[0, 1] > 0.98
    assert len(frames_of(real_dicom(shared_data, "examples_ybr_color.dcm"))) == 30
    ultrasound = shown(real_dicom(shared_data, "US1_J2KR.dcm"))
    assert ultrasound.shape == (480, 640, 3)
    assert np.ptp(ultrasound.astype(int), axis=2).max() > 200  # a Doppler image: not gray


def test_overlays_in_unused_bits_are_not_drawn() -> None:
    clean = made(RAMP, BitsStored=12, HighBit=11)
    drawn_on = RAMP.copy()
    drawn_on[3:9, 3:9] |= 0x8000
    assert np.array_equal(shown(made(drawn_on, BitsStored=12, HighBit=11)), shown(clean))
    below = (RAMP << 4) | 0x0005
    assert np.array_equal(shown(made(below, BitsStored=12, HighBit=15)), shown(clean))
    negative = RAMP.astype(np.int16) - 128
    signed = made(negative & 0x0FFF, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(shown(signed), shown(made(negative)))


def test_overlay_groups_are_not_drawn() -> None:
    content = made(RAMP)
    overlaid = dcmread(BytesIO(content))
    overlaid.add_new((0x6000, 0x0010), "US", 16)
    overlaid.add_new((0x6000, 0x0011), "US", 16)
    overlaid.add_new((0x6000, 0x0100), "US", 1)
    overlaid.add_new((0x6000, 0x0102), "US", 0)
    overlaid.add_new((0x6000, 0x3000), "OW", b"\xff" * 32)
    buffer = BytesIO()
    overlaid.save_as(buffer)
    assert np.array_equal(shown(buffer.getvalue()), shown(content))


def test_bits_are_unpacked_across_frames() -> None:
    bits = np.zeros((3, 5, 5), dtype=np.uint8)  # 25 bits a frame: none ends on a byte
    bits[0, 0, 0] = bits[1, 2, 2] = bits[2, 4, 4] = 1
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    content = made(
        packed,
        Rows=5,
        Columns=5,
        NumberOfFrames=3,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelRepresentation=0,
    )
    assert np.array_equal(np.stack([p.pixels for p in frames_of(content)]), bits * 255)


COLOURS = np.random.default_rng(7).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_colours_by_pixel_and_by_plane(syntax: uid.UID) -> None:
    by_pixel = made(COLOURS, syntax=syntax, **SAYS_NO)
    planes = np.ascontiguousarray(np.moveaxis(COLOURS, 2, 0)).tobytes()
    by_plane = made(COLOURS, syntax=syntax, PlanarConfiguration=1, PixelData=planes, **SAYS_NO)
    assert np.array_equal(shown(by_pixel), COLOURS)
    assert np.array_equal(shown(by_plane), COLOURS)


def test_luminance_and_chrominance_become_rgb() -> None:
    gray = np.full((4, 4, 3), (90, 128, 128), dtype=np.uint8)
    content = made(gray, PhotometricInterpretation="YBR_FULL", **SAYS_NO)
    assert np.array_equal(shown(content), np.full((4, 4, 3), 90))


def test_16_bit_colours_come_as_8() -> None:
    content = made(COLOURS.astype(np.uint16) * 257, **SAYS_NO)
    assert np.array_equal(shown(content), COLOURS)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint32, np.int32])
def test_stored_types(dtype: type) -> None:
    pixels: np.ndarray = (
        RAMP.astype(np.int64) // 2 - (64 if np.dtype(dtype).kind == "i" else 0)
    ).astype(dtype)
    gray = shown(made(pixels))
    assert (gray[0, 0], gray[-1, -1]) == (0, 255)
    assert (np.diff(gray.ravel().astype(int)) >= 0).all()


def test_big_endian() -> None:
    pixels = RAMP * 100
    little, big = (
        shown(made(pixels, syntax=s)) for s in (uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    )
    assert np.array_equal(little, big)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_file_without_preamble_and_meta_header_is_read(syntax: uid.UID) -> None:
    whole = made(RAMP, syntax=syntax)
    start = whole.index(b"\x08\x00\x16\x00")  # SOPClassUID, the first element of the data set
    assert np.array_equal(shown(whole[start:]), shown(whole))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"\x08", "not_dicom"),
        (b"hello, this is no picture at all", "not_dicom"),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", "not_dicom"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "not_dicom"),
        (bytes(128) + b"DICM", "not_a_picture"),
        (bytes(4096), "not_dicom"),
    ],
)
def test_what_is_no_dicom(content: bytes, reason: str) -> None:
    assert reason_of(content) == reason


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"SOPClassUID": uid.SegmentationStorage}, "not_a_picture"),
        ({"SOPClassUID": uid.RTDoseStorage}, "not_a_picture"),
        ({"Rows": None}, "not_a_picture"),
        ({"PixelData": None}, "truncated"),
        ({"PixelData": b"\0" * 100}, "truncated"),
        ({"Rows": 17}, "truncated"),
        ({"NumberOfFrames": 2}, "truncated"),
        ({"NumberOfFrames": -2}, "inconsistent_header"),
        ({"Columns": 0}, "inconsistent_header"),
        ({"BitsAllocated": 12}, "inconsistent_header"),
        ({"BitsStored": 17}, "inconsistent_header"),
        ({"BitsStored": 0}, "inconsistent_header"),
        ({"HighBit": 3}, "inconsistent_header"),
        ({"SamplesPerPixel": 3}, "inconsistent_header"),
        ({"BitsAllocated": None}, "inconsistent_header"),
        ({"Columns": 65535, "Rows": 65535}, "too_many_pixels"),
        ({"NumberOfFrames": 2**31 - 1}, "too_many_pixels"),
        ({"Columns": 1, "Rows": 1, "NumberOfFrames": 200_000}, "too_many_pixels"),
        ({"PhotometricInterpretation": "ZORRO"}, "may_hold_text"),
        ({"PhotometricInterpretation": "ARGB", **SAYS_NO}, "unsupported_pixels"),
    ],
)
def test_headers_that_no_picture_has(elements: dict[str, Any], reason: str) -> None:
    assert reason_of(made(RAMP, **elements)) == reason


def encoded(kind: str, pixels: np.ndarray, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_frames_of_jpeg_and_jpeg_2000() -> None:
    pixels = np.stack([RAMP, RAMP.T]).astype(np.uint8)
    for kind, syntax in (("JPEG", uid.JPEGBaseline8Bit), ("JPEG2000", uid.JPEG2000Lossless)):
        frames = [encoded(kind, p, **({"quality": 95} if kind == "JPEG" else {})) for p in pixels]
        content = made(pixels, syntax=syntax, PixelData=encapsulated(*frames))
        for picture, stored in zip(frames_of(content), pixels, strict=True):
            assert np.abs(picture.pixels.astype(int) - stored).max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_a_compressed_frame_must_be_of_the_size_that_the_header_says(kind: str) -> None:
    """A codec allocates what the frame says: this one would be a hundred times the limit."""
    syntax = uid.JPEGBaseline8Bit if kind == "JPEG" else uid.JPEG2000Lossless
    frame = bytearray(encoded(kind, RAMP.astype(np.uint8)))
    if kind == "JPEG":
        at = frame.index(b"\xff\xc0") + 5
        frame[at : at + 4] = b"\xff\xff\xff\xff"
    else:
        at = frame.index(b"\xff\x4f\xff\x51") + 8
        frame[at : at + 8] = b"\x7f\xff\xff\xff" * 2
    content = made(RAMP.astype(np.uint8), syntax=syntax, PixelData=encapsulated(bytes(frame)))
    assert reason_of(content) == "inconsistent_header"


def test_missing_compressed_frames() -> None:
    pixels = np.stack([RAMP, RAMP]).astype(np.uint8)
    one = encapsulate([encoded("JPEG", pixels[0])])
    assert reason_of(made(pixels, syntax=uid.JPEGBaseline8Bit, PixelData=one)) == "truncated"
    content = made(pixels[0], syntax=uid.JPEGBaseline8Bit, PixelData=one)
    assert reason_of(content[:-40]) == "truncated"


def test_frames_come_one_at_a_time_until_one_is_broken() -> None:
    pixels = np.stack([RAMP, RAMP]).astype(np.uint8)
    good = encoded("JPEG", pixels[0])
    broken = good[: good.index(b"\xff\xda")] + b"\xff\xda\x00\x00"
    content = made(pixels, syntax=uid.JPEGBaseline8Bit, PixelData=encapsulated(good, broken))
    frames = iter_frames(content)
    assert next(frames).pixels.shape == (16, 16)
    with pytest.raises(Rejected):
        next(frames)
    with pytest.raises(Rejected):
        frames_of(content)


@pytest.mark.parametrize("syntax", [uid.MPEG2MPML, uid.HTJ2K])
def test_transfer_syntaxes_without_a_decoder(syntax: uid.UID) -> None:
    content = made(RAMP, syntax=syntax, PixelData=encapsulated(bytes(64)))
    assert reason_of(content) == "unsupported_transfer_syntax"


def test_a_transfer_syntax_that_nobody_knows() -> None:
    content = made(RAMP, syntax=uid.JPEGBaseline8Bit, PixelData=encapsulated(bytes(64)))
    renamed = content.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.9.99")
    assert renamed != content
    assert reason_of(renamed) == "unsupported_transfer_syntax"


def test_a_deflated_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(np.zeros((1024, 1024), np.uint16), syntax=uid.DeflatedExplicitVRLittleEndian)
    assert len(content) < 10_000
    assert not shown(content).any()
    monkeypatch.setattr("udfs.dicom.reading.MAX_INFLATED_BYTES", 1 << 20)
    assert reason_of(content) == "too_many_pixels"


def test_gdcm_leaves_zlib_whole() -> None:
    """In a fresh process the modules load zlib before GDCM, or PNGs would corrupt the heap."""
    code = (
        "import udfs.dicom.codecs, io, zlib\n"
        "from PIL import Image\n"
        "for size in (16, 512, 2048):\n"
        "    Image.effect_noise((size, size), 90).save(io.BytesIO(), 'PNG')\n"
        "print(zlib.decompress(zlib.compress(b'whole' * 9999))[:5])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import site; site.main()\n" + code], capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"b'whole'\n"

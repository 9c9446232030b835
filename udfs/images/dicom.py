"""Pictures out of DICOM files: gray as a viewer shows it, or RGB, one for each frame.

What may show a patient's name is never decoded, see `udfs.dicom.quarantine`. Overlays (groups
60xx), also those in unused bits of the pixels, graphics and icons are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from pydicom import Dataset, uid
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder

from udfs.dicom.codecs import CODECS, decode_12_bit_jpeg
from udfs.dicom.codestream import codestream_of
from udfs.dicom.grayscale import Stored, gray_of
from udfs.dicom.layout import PALETTE, Layout, layout_of
from udfs.dicom.lookup import lookup_table, shares
from udfs.dicom.quarantine import quarantine_reason
from udfs.dicom.reading import quiet, read, text_of
from udfs.images.picture import Picture, Rejected

_NOT_PICTURES = frozenset(
    {
        uid.RTDoseStorage,
        uid.SegmentationStorage,
        uid.ParametricMapStorage,
    }
)
_WITH_CODESTREAM = frozenset(
    {
        *uid.JPEGTransferSyntaxes,
        *uid.JPEGLSTransferSyntaxes,
        *uid.JPEG2000TransferSyntaxes,
    }
)
# GDCM's decoder of lossy JPEG ends the process at some broken frames; libjpeg-turbo does not.
_BY_PILLOW = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)


def frames_of(content: bytes) -> list[Picture]:
    """The pictures of a DICOM file, one for each frame, all or none.

    Raises Rejected, and nothing else, with one of these reasons:

    - `empty_file`, `not_dicom`, `unreadable_header`: no data set can be read;
    - `not_a_picture`: a report, a plan, a segmentation, a dose grid, a map of floats;
    - those of `udfs.dicom.quarantine.quarantine_reason`: the pixels may show who it is;
    - `too_many_pixels`: more than the limits of `udfs.dicom.layout`, before decoding;
    - `truncated`: fewer pixels than the header declares, or none;
    - `inconsistent_header`: sizes, bits or channels that no picture has, or other ones than the
      compressed frames declare;
    - `bad_lookup_table`: a table that is shorter than it says;
    - `unsupported_transfer_syntax`, `unsupported_pixels`: no decoder here, as for videos,
      coloured 12-bit JPEG Extended, four channels;
    - `corrupt`: a codec found the pixels broken.

    Pixels that are not square stay as stored. A codec may take the process down with it: see
    docs/figures-dicom.md.
    """
    return list(iter_frames(content))


def iter_frames(content: bytes) -> Iterator[Picture]:
    """As `frames_of`, but holds one picture at a time; those before a broken frame are given."""
    pictures = _pictures(content)
    while True:
        with quiet():  # not across the yield: it is about the whole process
            try:
                picture = next(pictures, None)
            except Rejected:
                raise
            except MemoryError:
                raise Rejected("too_many_pixels") from None
            except Exception:  # codecs raise what they like, and quote the header in it
                raise Rejected("corrupt") from None
        if picture is None:
            return
        yield picture


def _pictures(content: bytes) -> Iterator[Picture]:
    dataset = read(content)
    _check_that_it_may_be_drawn(dataset)
    layout = layout_of(dataset)
    for index, array in enumerate(_arrays(dataset, layout)):
        yield Picture(
            pixels=_shown(array, dataset, index, layout),
            source_width_px=layout.width_px,
            source_height_px=layout.height_px,
            source_format="DICOM",
            source_mode=f"{layout.photometric};{layout.bits_stored}",
            codec=CODECS,
        )


def _check_that_it_may_be_drawn(dataset: Dataset) -> None:
    is_picture = "Rows" in dataset and text_of(dataset, "SOPClassUID") not in _NOT_PICTURES
    if not is_picture or "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise Rejected("not_a_picture")
    if "PixelData" not in dataset:
        raise Rejected("truncated")
    if reason := quarantine_reason(dataset):
        raise Rejected(reason)


def _arrays(dataset: Dataset, layout: Layout) -> Iterator[np.ndarray]:
    """Stored values of each frame, (h, w) or (h, w, 3), colours as RGB."""
    try:
        decoder = get_decoder(layout.syntax)
    except NotImplementedError:
        raise Rejected("unsupported_transfer_syntax") from None
    if not decoder.is_available:
        raise Rejected("unsupported_transfer_syntax")
    if layout.syntax.is_encapsulated:
        _check_codestreams(dataset, layout)
    else:
        _check_length(dataset, layout)
    dataset.file_meta.TransferSyntaxUID = layout.syntax
    shift = 0
    if layout.syntax not in _WITH_CODESTREAM:  # a codec gives its values at the lowest bit
        shift = layout.high_bit + 1 - layout.bits_stored
        dataset.BitsStored = layout.high_bit + 1  # pydicom clears the bits above
    if _is_12_bit_jpeg(layout):
        for frame in _frames(dataset, layout):
            yield decode_12_bit_jpeg(frame, layout.width_px, layout.height_px)
        return
    plugin = "pillow" if layout.syntax in _BY_PILLOW else ""
    arrays = decoder.iter_array(dataset, decoding_plugin=plugin, allow_excess_frames=False)
    for array, _ in itertools.islice(arrays, layout.frames):
        yield array >> shift if shift else array


def _check_length(dataset: Dataset, layout: Layout) -> None:
    samples = layout.width_px * layout.height_px * layout.channels * layout.frames
    if layout.photometric == "YBR_FULL_422":
        samples = samples * 2 // 3
    if len(dataset.PixelData) < math.ceil(samples * layout.bits_allocated / 8):
        raise Rejected("truncated")


def _frames(dataset: Dataset, layout: Layout) -> Iterator[bytes]:
    frames = generate_frames(dataset.PixelData, number_of_frames=layout.frames)
    return itertools.islice(frames, layout.frames)


def _is_12_bit_jpeg(layout: Layout) -> bool:
    is_gray = layout.channels == 1 and not layout.signed
    return layout.syntax == uid.JPEGExtended12Bit and layout.bits_allocated == 16 and is_gray


def _check_codestreams(dataset: Dataset, layout: Layout) -> None:
    """Every compressed frame is there, and declares the size that the header does."""
    frames = 0
    for frame in _frames(dataset, layout):
        frames += 1
        if layout.syntax not in _WITH_CODESTREAM:
            continue
        stream = codestream_of(frame)
        if stream is None:
            raise Rejected("corrupt")
        declared = (layout.width_px, layout.height_px, layout.channels)
        if (stream.width_px, stream.height_px, stream.channels) != declared:
            raise Rejected("inconsistent_header")
        if not _is_decoded(stream.bits, layout):
            raise Rejected("unsupported_pixels")
    if frames < layout.frames:
        raise Rejected("truncated")


def _is_decoded(bits: int, layout: Layout) -> bool:
    if _is_12_bit_jpeg(layout):
        return bits == 12
    return bits == 8 if layout.syntax in _BY_PILLOW else bits <= 16


def _shown(array: np.ndarray, dataset: Dataset, frame: int, layout: Layout) -> np.ndarray:
    if layout.photometric == PALETTE:
        return _palette_colours(array, dataset, layout)
    if layout.channels == 3:
        if layout.bits_stored > 8:
            array = array >> (layout.bits_stored - 8)
        return np.ascontiguousarray(array, dtype=np.uint8)
    how = Stored(layout.bits_stored, layout.signed, _is_little_endian(dataset))
    return gray_of(array, dataset, frame, how, inverted=layout.photometric == "MONOCHROME1")


def _palette_colours(array: np.ndarray, dataset: Dataset, layout: Layout) -> np.ndarray:
    tables = [
        lookup_table(
            dataset,
            f"{colour}PaletteColorLookupTableDescriptor",
            f"{colour}PaletteColorLookupTableData",
            little_endian=_is_little_endian(dataset),
            signed=layout.signed,
        )
        for colour in ("Red", "Green", "Blue")
    ]
    return np.stack(
        [np.rint(s * np.float32(255)).astype(np.uint8) for s in shares(array, *tables)], axis=-1
    )


def _is_little_endian(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is not False

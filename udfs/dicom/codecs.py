"""GDCM, loaded so that it leaves the process whole, and what pydicom does not ask of it.

GDCM's wheel brings a zlib of its own. Where it is loaded before the system's, calls inside the
system's zlib land in GDCM's, and the next PNG that Pillow writes corrupts the heap ("double free
or corruption", python-gdcm 3.2.6). Loaded after it, each keeps to its own. So this is the one
module that imports gdcm, and zlib comes first.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must stay above gdcm)

import gdcm
import numpy as np
import PIL
import pydicom

CODECS = (
    f"pydicom {pydicom.__version__}, gdcm {gdcm.Version.GetVersion()}, pillow {PIL.__version__}"
)

for _speaker in ("Debug", "Warning", "Error"):  # they quote values of the header
    getattr(gdcm.Trace, f"{_speaker}Off")()


def decode_12_bit_jpeg(frame: bytes, width_px: int, height_px: int) -> np.ndarray:
    """A gray 12-bit JPEG Extended frame as (height_px, width_px) uint16.

    GDCM has a decoder for it, which pydicom leaves out. Raises ValueError where it finds the
    frame broken.
    """
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((width_px, height_px, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(decoded, "<u2").reshape(height_px, width_px)

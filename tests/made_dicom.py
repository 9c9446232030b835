"""DICOM files made in memory, as a device might write them."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset, config, dcmwrite, uid
from pydicom.encaps import encapsulate

from udfs.images.dicom import frames_of
from udfs.images.picture import Rejected

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
"""Values from 0 to 255, row by row."""


def made(
    pixels: np.ndarray | bytes | None,
    *,
    syntax: uid.UID = uid.ExplicitVRLittleEndian,
    **elements: Any,
) -> bytes:
    """A file of a CT slice with these stored values, (h, w), (frames, h, w) or (h, w, 3).

    `elements` are set by keyword over what the values and a CT ask for; None removes one. Bytes
    are pixel data as it stands; None: there is none.
    """
    dataset = Dataset()
    dataset.SOPClassUID = uid.CTImageStorage
    dataset.SOPInstanceUID = "1.2.3.4.5.6"
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.SeriesInstanceUID = "1.2.3.4.5"
    dataset.Modality = "CT"
    dataset.PatientID = "P-1"
    if isinstance(pixels, np.ndarray):
        _describe(dataset, pixels)
        stored = pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")
        data = pixels.astype(stored).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
    elif pixels is not None:
        dataset.PixelData = pixels
    with config.disable_value_validation():
        for name, value in elements.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)
    return written(dataset, syntax)


def encapsulated(*frames: bytes) -> bytes:
    """Pixel data of compressed frames."""
    return encapsulate([f + b"\0" * (len(f) % 2) for f in frames])


def written(dataset: Dataset, syntax: uid.UID, meta: FileMetaDataset | None = None) -> bytes:
    """The data set as a file of this transfer syntax, with whatever values it has."""
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW" if dataset.get("BitsAllocated", 16) > 8 else "OB"
        dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    file_meta = FileMetaDataset() if meta is None else meta
    file_meta.TransferSyntaxUID = syntax
    file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "1.2.3")
    dataset.file_meta = file_meta
    buffer = BytesIO()
    with config.disable_value_validation():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def shown(content: bytes) -> np.ndarray:
    """Pixels of the one picture in a file."""
    (picture,) = frames_of(content)
    return picture.pixels


def reason_of(content: bytes) -> str:
    """Why there is no picture in a file."""
    with pytest.raises(Rejected) as rejected:
        frames_of(content)
    assert rejected.value.__cause__ is None
    return rejected.value.reason


def _describe(dataset: Dataset, pixels: np.ndarray) -> None:
    is_colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[:2] if is_colour else pixels.shape[-2:]
    if pixels.ndim == 3 and not is_colour:
        dataset.NumberOfFrames = pixels.shape[0]
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")

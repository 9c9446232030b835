"""Which DICOM pictures may show a name: they are never decoded and never drawn.

Pixels cannot be searched for text reliably, so what the file says of itself decides, after the
option "Clean Pixel Data" of the confidentiality profiles (DICOM PS3.15, E.3.1): what is known to
hold text, what was captured second-hand from a screen or from paper, and what comes from devices
that write on their pictures and does not say that it holds none.
"""

from __future__ import annotations

import numpy as np
from pydicom import Dataset, uid

from udfs.dicom.reading import text_of, texts_of

BURNED_IN = "burned_in_annotation"
RECOGNIZABLE = "recognizable_visual_features"
SECONDARY_CAPTURE = "secondary_capture"
MAY_HOLD_TEXT = "may_hold_text"

_SECONDARY_CAPTURES = frozenset(
    {
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
# Detectors give numbers, not a screen: a picture of theirs in gray is taken to be free of text
# unless it says otherwise. Every other kind must say BurnedInAnnotation = NO.
_DETECTORS = frozenset(
    {
        uid.BreastProjectionXRayImageStorageForPresentation,
        uid.BreastProjectionXRayImageStorageForProcessing,
        uid.BreastTomosynthesisImageStorage,
        uid.ComputedRadiographyImageStorage,
        uid.CTImageStorage,
        uid.DigitalIntraOralXRayImageStorageForPresentation,
        uid.DigitalIntraOralXRayImageStorageForProcessing,
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.EnhancedCTImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedPETImageStorage,
        uid.EnhancedXAImageStorage,
        uid.EnhancedXRFImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.MRImageStorage,
        uid.NuclearMedicineImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.XRay3DAngiographicImageStorage,
        uid.XRay3DCraniofacialImageStorage,
        uid.XRayAngiographicImageStorage,
        uid.XRayRadiofluoroscopicImageStorage,
    }
)
_DETECTOR_MODALITIES = frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "XA"})
_MOST_REGIONS = 64
_CAPTURE_WORDS = ("SCREEN", "SAVE", "CAPTURE", "SNAPSHOT")


def quarantine_reason(dataset: Dataset) -> str | None:
    """Why the pictures of a data set must not be drawn; None: they may be.

    `dataset` needs no pixels. The first of these that holds:

    - `burned_in_annotation`: BurnedInAnnotation says anything but NO.
    - `recognizable_visual_features`: RecognizableVisualFeatures says YES, as for a face.
    - `secondary_capture`: the SOP class is one of the secondary captures; or the file has a
      ConversionType, which only captures have; or ImageType names a screen save.
    - `may_hold_text`: calibrated regions (ultrasound) leave a part of the picture to the device's
      screen, whatever BurnedInAnnotation says; or nothing says that there is no text, and it is
      no gray picture of a detector.
    """
    burned_in = text_of(dataset, "BurnedInAnnotation").upper()
    if burned_in not in ("", "NO"):
        return BURNED_IN
    if text_of(dataset, "RecognizableVisualFeatures").upper() == "YES":
        return RECOGNIZABLE
    if _is_captured(dataset):
        return SECONDARY_CAPTURE
    if _shows_a_screen(dataset) or (burned_in != "NO" and not _is_of_a_detector(dataset)):
        return MAY_HOLD_TEXT
    return None


def _is_captured(dataset: Dataset) -> bool:
    if text_of(dataset, "SOPClassUID") in _SECONDARY_CAPTURES:
        return True
    if text_of(dataset, "ConversionType"):
        return True
    kinds = " ".join(texts_of(dataset, "ImageType")).upper()
    return any(word in kinds for word in _CAPTURE_WORDS)


def _is_of_a_detector(dataset: Dataset) -> bool:
    return (
        text_of(dataset, "SOPClassUID") in _DETECTORS
        and text_of(dataset, "Modality").upper() in _DETECTOR_MODALITIES
        # A coloured CT is a rendering or a map with its legend.
        and text_of(dataset, "PhotometricInterpretation").startswith("MONOCHROME")
    )


def _shows_a_screen(dataset: Dataset) -> bool:
    """Whether regions of measurement are declared that leave a part of the picture uncovered."""
    if "SequenceOfUltrasoundRegions" not in dataset:
        return False
    try:
        regions = [_corners(r) for r in dataset.SequenceOfUltrasoundRegions[:_MOST_REGIONS]]
        columns, rows = int(dataset.Columns), int(dataset.Rows)
    except Exception:  # what cannot be read covers nothing
        return True
    # On the grid of the regions' own edges, because a header may declare any size.
    xs, ys = (
        np.unique(np.clip([0, size, *(edge for r in regions for edge in r[axis])], 0, size))
        for axis, size in ((0, columns), (1, rows))
    )
    covered = np.zeros((len(ys) - 1, len(xs) - 1), dtype=bool)
    for (left, right), (top, bottom) in regions:
        inside_x, inside_y = (
            (xs[:-1] >= left) & (xs[1:] <= right),
            (ys[:-1] >= top) & (ys[1:] <= bottom),
        )
        covered |= inside_y[:, None] & inside_x
    return not covered.all()


def _corners(region: Dataset) -> tuple[tuple[int, int], tuple[int, int]]:
    """Left and right, top and bottom; the second of each is the first pixel outside."""
    return (
        (int(region.RegionLocationMinX0), int(region.RegionLocationMaxX1) + 1),
        (int(region.RegionLocationMinY0), int(region.RegionLocationMaxY1) + 1),
    )

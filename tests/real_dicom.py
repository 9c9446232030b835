"""The real DICOM files, and what must become of each."""

from __future__ import annotations

from pathlib import Path

FRAMES_OR_REASON: dict[str, int | str] = {
    "CT_small.dcm": 1,
    "ExplVR_BigEnd.dcm": "may_hold_text",
    "JPEG-LL.dcm": "secondary_capture",
    "JPEG2000.dcm": "secondary_capture",
    "JPGExtended.dcm": "secondary_capture",
    "JPGLosslessP14SV1_1s_1f_8b.dcm": "may_hold_text",
    "MR-SIEMENS-DICOM-WithOverlays.dcm": 1,
    "MR2_J2KI.dcm": 1,
    "MR_small.dcm": 1,
    "MR_small_RLE.dcm": 1,
    "MR_small_bigendian.dcm": 1,
    "MR_small_implicit.dcm": 1,
    "MR_small_jp2klossless.dcm": 1,
    "MR_small_jpeg_ls_lossless.dcm": 1,
    "MR_truncated.dcm": "truncated",
    "OBXXXX1A_rle.dcm": "may_hold_text",
    "RG1_J2KI.dcm": 1,
    "RG3_J2KI.dcm": 1,
    "US1_J2KR.dcm": "may_hold_text",
    "bad_sequence.dcm": 1,
    "eCT_Supplemental.dcm": 2,
    "emri_small_jpeg_2k_lossless.dcm": 10,
    "examples_ybr_color.dcm": "may_hold_text",
    "explicit_VR-UN.dcm": "secondary_capture",
    "gdcm-US-ALOKA-16.dcm": "may_hold_text",
    "image_dfl.dcm": "secondary_capture",
    "liver_rle.dcm": "not_a_picture",
    "nested_priv_SQ.dcm": "not_a_picture",
    "no_meta.dcm": "not_dicom",
    "priv_SQ.dcm": "not_a_picture",
    "rtdose.dcm": "not_a_picture",
    "series/77654033/CR1/6154": 1,
    "series/77654033/CT2/17106": 1,
    "series/77654033/CT2/17136": 1,
    "series/98892003/MR1/4919": 1,
    "series/98892003/MR2/4950": 1,
    "series/98892003/MR2/4981": 1,
    "test-SR.dcm": "not_a_picture",
}
WITH_TEXT_IN_PIXELS = (
    "gdcm-US-ALOKA-16.dcm",
    "US1_J2KR.dcm",
    "OBXXXX1A_rle.dcm",
    "examples_ybr_color.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
)
QUARANTINED = ("may_hold_text", "secondary_capture", "burned_in_annotation")


def real_dicom(shared_data: Path, name: str) -> bytes:
    """Content of one of the files."""
    return (shared_data / "medical" / "dicom" / name).read_bytes()

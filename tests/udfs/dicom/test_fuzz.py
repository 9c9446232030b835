"""Broken DICOM files give pictures or a reason, never another error, and cost no row but theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzed_dicom import fuzz

pytestmark = pytest.mark.slow

REASONS = {
    "pictures",
    "bad_lookup_table",
    "burned_in_annotation",
    "corrupt",
    "empty_file",
    "inconsistent_header",
    "may_hold_text",
    "not_a_picture",
    "not_dicom",
    "recognizable_visual_features",
    "secondary_capture",
    "too_many_pixels",
    "truncated",
    "unreadable_header",
    "unsupported_pixels",
    "unsupported_transfer_syntax",
}


@pytest.mark.slow
def test_hundreds_of_broken_files(shared_data: Path) -> None:
    counts, crashed = fuzz(shared_data / "medical" / "dicom", 0, 760)
    assert not crashed
    assert counts.total() == 760
    assert set(counts) <= REASONS
    assert counts["pictures"] > 100
    assert counts["corrupt"] + counts["truncated"] > 50


@pytest.mark.faults
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("draw_all", [False, True])
def test_thousands_of_broken_files(shared_data: Path, draw_all: bool) -> None:
    """Only GDCM's 12-bit JPEG has been seen to end the process; what does is counted."""
    copies = 4_000
    counts, crashed = fuzz(
        shared_data / "medical" / "dicom", 1_000_000, 1_000_000 + copies, draw_all=draw_all
    )
    print(f"{len(crashed)} of {copies} ended the process: {crashed}; {dict(counts)}")
    assert counts.total() + len(crashed) == copies
    assert set(counts) <= REASONS
    assert len(crashed) <= copies / 1000

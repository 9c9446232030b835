"""Captions of panels, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.panel_captions import MOST_PANELS, panel_captions

PIECES = [
    "(A)",
    "(b)",
    "(a-c)",
    "(C, D)",
    "A:",
    "B.",
    "b)",
    " ",
    "text",
    ". ",
    ", ",
    "and",
    "-",
    "(",
]


@pytest.mark.parametrize(
    ("caption", "panels"),
    [
        ("(A) Axial CT. (B) Coronal CT.", ["Axial CT.", "Coronal CT."]),
        ("A: before. B: after.", ["before.", "after."]),
        ("a) Axial. b) Coronal.", ["Axial.", "Coronal."]),
        ("Head CT: A. Axial. B. Coronal.", ["Head CT: Axial.", "Head CT: Coronal."]),
        # The head belongs to all of them, and a letter after its turn is text.
        (
            "Chest CT. (A) Axial, (B) coronal, and (C) sagittal view. Arrow in (A).",
            ["Chest CT. Axial", "Chest CT. coronal", "Chest CT. sagittal view. Arrow in (A)."],
        ),
        ("MRI showing (A) tumor and (B) edema.", ["MRI showing tumor", "MRI showing edema."]),
        ("(A, B) CT, (C\u2013E) MRI.", ["CT", "CT", "MRI.", "MRI.", "MRI."]),
        ("(a and b) CT; (c) MRI", ["CT", "CT", "MRI"]),
        # Behind their text.
        (
            "Patient 3. Axial (a) and coronal (b) CT showing tumor.",
            ["Patient 3. Axial CT showing tumor.", "Patient 3. coronal CT showing tumor."],
        ),
        # No panels, or not clear which text is whose.
        ("Axial CT of the chest.", []),
        ("Mass (A) in the liver", []),
        ("(A) one (C) three", []),
        ("(B) two (C) three", []),
        ("(A) (B)", []),
        ("Anteroposterior (a-p) X-ray", []),
        ("Fundus photographs (a, b), fluorescein (c) angiographs, infrared images (d)", []),
        ("Hepatitis B: a study. Vitamin C: none.", []),
        ("", []),
    ],
)
def test_texts_of_panels(caption: str, panels: list[str]) -> None:
    assert panel_captions(caption) == panels


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
def test_any_text_has_no_panels_or_several_with_text(caption: str) -> None:
    found = panel_captions(caption)
    assert len(found) == 0 or 2 <= len(found) <= MOST_PANELS
    assert all(found)

"""Captions as delivered become clean ones, or rejected ones with reasons."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import Row, SparkSession

from pipelines.figures.captions import captions_of
from schemas import FIGURE_CAPTIONS
from schemas.frames import frame_of

pytestmark = pytest.mark.slow

COLUMNS = "figure_id bigint, revision bigint, caption string, modality string, format string"

# What is delivered, what is left, and what changed beside white space and punctuation.
MENDED: list[tuple[str, str, set[str]]] = [
    ("Axial CT of the chest.", "Axial CT of the chest.", set()),
    (" \tAxial CT\n of the  chest. ", "Axial CT of the chest.", set()),
    ("Fig. 3a. Axial CT of the chest.", "Axial CT of the chest.", {"figure_label"}),
    ("Figure 2: Chest radiograph.", "Chest radiograph.", {"figure_label"}),
    ("FIGURE 1 | Chest radiograph.", "Chest radiograph.", {"figure_label"}),
    ("Figures 1 and 2. Chest radiograph.", "Chest radiograph.", {"figure_label"}),
    ("Supplementary Figure S2. Chest radiograph.", "Chest radiograph.", {"figure_label"}),
    ("Figure 1:MRI of the brain", "MRI of the brain", {"figure_label"}),
    ("Fig 1 Sagittal MRI of the brain", "Sagittal MRI of the brain", {"figure_label"}),
    ("Figure 2 shows the lesion.", "Figure 2 shows the lesion.", set()),
    ("Figure 1-year follow-up MRI.", "Figure 1-year follow-up MRI.", set()),
    ("Same patient as in Figure 2.", "Same patient as in Figure 2.", set()),
    ("The tumor [12, 13] grew [4\u20136].", "The tumor grew.", {"citations"}),
    ("The tumor (Smith et al., 2010) grew.", "The tumor grew.", {"citations"}),
    ("A tumor (Li and Wu, 2011; Ng, 2012a).", "A tumor.", {"citations"}),
    ("The PET tracer [18F]FDG and [11]C", "The PET tracer [18F]FDG and [11]C", set()),
    ("A mean of 20 (95% CI [12, 30]).", "A mean of 20 (95% CI [12, 30]).", set()),
    ("CT in winter (March, 2010).", "CT in winter (March, 2010).", set()),
    ("Liver cells. Scale bar = 10 µm.", "Liver cells.", {"scale_bar", "unicode"}),
    ("Liver cells. Scale bars: 50 μm (A, B), 20 μm (C).", "Liver cells.", {"scale_bar"}),
    ("Gray-scale image, 10 mm deep.", "Gray-scale image, 10 mm deep.", set()),
    ("A crow-bar 20 cm long.", "A crow-bar 20 cm long.", set()),
    ("CT scan. Reproduced with permission from J. Wu et al. Cell.", "CT scan.", {"boilerplate"}),
    ("CT of a mass, reproduced with permission from Elsevier.", "CT of a mass.", {"boilerplate"}),
    ("CT scan (with permission from Wiley).", "CT scan.", {"boilerplate"}),
    ("CT scan. This figure appears in color online.", "CT scan.", {"boilerplate"}),
    ("CT scan. © 2010 Elsevier. All rights reserved.", "CT scan.", {"boilerplate"}),
    ("Axial CT scan.Source: A Dixit", "Axial CT scan.", {"boilerplate"}),
    ("CT scan courtesy of Dr. A. Wu, Rome.", "CT scan.", {"boilerplate"}),
    ("Axial source image of the brain.", "Axial source image of the brain.", set()),
    ("The patient gave permission for CT.", "The patient gave permission for CT.", set()),
    ("['Axial CT.', 'Coronal CT.']", "Axial CT. Coronal CT.", {"list"}),
    ('["Axial CT scan"]', "Axial CT scan", {"list"}),
    ("10 cm&lt;sup&gt;2&lt;/sup&gt; mass", "10 cm2 mass", {"entities", "tags"}),
    ("Large\u200b liver mass", "Large liver mass", {"control_characters"}),
]
REJECTED: list[tuple[str | None, list[str]]] = [
    (None, ["no_caption"]),
    ("", ["no_caption"]),
    (" \n\u00a0\u200b", ["no_caption"]),
    *(
        (text, ["placeholder"])
        for text in ("N/A", "image", "No caption.", "nan", "-", "[]", "[image]")
    ),
    *((text, ["placeholder"]) for text in ("Figure 1", "Fig. 3.", "Image 2", "Scale bar = 10 μm.")),
    *(
        (text, ["file_name"])
        for text in ("IMG_0032.jpg", "IMG_0032", "image003", "a/b/PMC1_g2.tif")
    ),
    *((text, ["file_name"]) for text in ("Screenshot 2020-01-01 at 10.10.png", "synpic54610")),
    *((text, ["too_short"]) for text in ("OPG.", "12 34 5", "T2 (a)")),
    ("Radiographie thoracique de face montrant une opacité", ["not_english"]),
    ("胸部X線写真で左胸水を認める", ["not_english"]),
]


def cleaned(spark: SparkSession, captions: Sequence[str | None]) -> list[Row]:
    rows: list[tuple[Any, ...]] = [(i, 1, c, None, "folder") for i, c in enumerate(captions)]
    return captions_of(frame_of(spark, rows, COLUMNS)).orderBy("figure_id").collect()


def test_what_is_mended_and_how(spark: SparkSession) -> None:
    found = cleaned(spark, [given for given, _, _ in MENDED])
    about = {"white_space", "punctuation"}
    assert [(r.caption, set(r.mended) - about) for r in found] == [m[1:] for m in MENDED]
    assert all(r.mended == sorted(r.mended) and r.reasons == [] for r in found)


def test_what_is_rejected_and_why(spark: SparkSession) -> None:
    found = cleaned(spark, [given for given, _ in REJECTED])
    assert [r.reasons for r in found] == [reasons for _, reasons in REJECTED]
    assert all(r.caption is None and r.panel_captions == [] for r in found)


def test_rows_are_those_of_the_table(spark: SparkSession) -> None:
    given_rows = [
        (7, 70, "Fig. 1. (A) Axial CT. (B) Coronal CT.", None, "folder"),
        (8, 80, None, "MR", "dicom"),
    ]
    found = captions_of(frame_of(spark, given_rows, COLUMNS))
    assert found.columns == [c.name for c in FIGURE_CAPTIONS.columns]
    first, second = found.orderBy("figure_id").collect()
    assert (first.figure_id, first.revision, first.modality) == (7, 70, "ct")
    assert first.panel_captions == ["Axial CT.", "Coronal CT."]
    assert (second.figure_id, second.revision, second.reasons) == (8, 80, ["no_caption"])
    assert (second.modality, second.modality_evidence) == ("mri", "tag: MR")


PIECES = [
    *("Fig. 1. ", "Figure 2: ", "[12]", "[", "]", "(", ")", "1", ", ", ". ", " ", ";", "&", "lt;"),
    *(
        "(Wu et al., 2010)",
        "Scale bar = 10 μm",
        "© 2010",
        "Courtesy of A. Wu",
        "with permission of",
    ),
    *(
        "['",
        "', '",
        "']",
        '"',
        "<b>",
        "</b>",
        "CT scan",
        "shows",
        ":",
        "-",
        "\u2013",
        "|",
        "n/a",
        "µ",
    ),
    *("\\documentclass", "\\begin{document}", "\\end{document}", "$$", "Source: ", "..", "\u200b"),
]


@pytest.mark.slow
@given(
    st.lists(
        st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)),
        min_size=200,
        max_size=200,
    )
)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_cleaning_twice_is_cleaning_once(spark: SparkSession, texts: list[str]) -> None:
    """For any text; and a caption that was kept is kept again."""
    once = [r.caption for r in cleaned(spark, [t.replace("\0", "") for t in texts])]
    kept = [c for c in once if c is not None]
    again = cleaned(spark, kept)
    assert [r.caption for r in again] == kept
    assert [r.mended for r in again] == [[] for _ in kept]


@pytest.mark.slow
def test_captions_of_great_length(spark: SparkSession) -> None:
    """Java's patterns neither overflow its stack nor take ages."""
    texts = [
        "CT of the liver (" * 5_000,
        "Courtesy of " + "A. B. (c) " * 5_000,
        "[1, " * 10_000,
        "['" + "a', 'b" * 8_000 + "']",
        "Fig. 1. " * 8_000,
        "Scale bar = 10 μm (A) and 20 μm (B), " * 2_000,
        "(A) text " * 5_000,
        "(Wu and " * 5_000,
        " ".join(f"word{i}" for i in range(8_000)),
        "&lt" * 10_000,
        "x" * 50_000,
    ]
    assert len(cleaned(spark, texts)) == len(texts)


@pytest.mark.slow
def test_real_captions(spark: SparkSession, shared_data: Path) -> None:
    """Of ROCO's 3 743 captions those in French go, and nearly all others stay."""
    folder = shared_data / "medical" / "roco_test"
    captions = []
    for name in ("radiology", "non-radiology"):
        with gzip.open(folder / name / "captions.txt.gz", "rt", encoding="utf-8") as f:
            captions += [line.rstrip("\n").split("\t", 1)[1] for line in f]
    found = cleaned(spark, captions)
    reasons = Counter(reason for r in found for reason in r.reasons)
    assert len(found) == 3743
    assert set(reasons) == {"not_english", "placeholder", "too_short"}
    assert 120 <= reasons["not_english"] <= 130
    assert (reasons["placeholder"], reasons["too_short"]) == (2, 3)
    mended = Counter(m for r in found for m in r.mended)
    assert mended["white_space"] == 3743  # every one begins with a blank
    assert mended["citations"] >= 20
    assert mended["boilerplate"] >= 30
    # Nothing is shortened by more than half but what is mostly LaTeX or boilerplate.
    short = [
        r for r, c in zip(found, captions, strict=True) if r.caption and len(r.caption) < len(c) / 2
    ]
    assert all({"boilerplate", "latex"} & set(r.mended) for r in short)
    assert len(short) < 10

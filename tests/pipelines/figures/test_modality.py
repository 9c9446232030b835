"""Modalities from tags, words and questions; on real data, at least as good as written down."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.figure_captions import Score, label_of, roco, scores, slake, vqa_rad
from pipelines.errors import UsageError
from pipelines.figures.modality import modality_of, modality_of_questions, words_of
from schemas.figures import MODALITIES
from schemas.frames import frame_of

pytestmark = pytest.mark.slow

CAPTIONS = {
    "Axial CT scan of the chest": "ct",
    "Contrast-enhanced computed tomography of the liver": "ct",
    "CT angiography of the brain": "ct",
    "Micro-CT of a tooth": "ct",
    "X-ray computed tomography of a bone": "ct",
    "Sagittal T2-weighted image of the knee": "mri",
    "MR angiography of the neck": "mri",
    "Magnetic resonance cholangiopancreatography": "mri",
    "PET/CT showing uptake in the liver": "nuclear",
    "CT/PET of the chest": "nuclear",
    "18F-FDG uptake": "nuclear",
    "Bone scintigraphy": "nuclear",
    "Coronary angiography": "angiography",
    "Digital subtraction angiogram": "angiography",
    "Fluorescein angiography of the left eye": "fundus",
    "Fundus photograph": "fundus",
    "Chest radiograph": "xray",
    "Postero-anterior chest X ray": "xray",
    "Mammogram": "xray",
    "Endoscopic retrograde cholangiopancreatography": "xray",
    "Endoscopic ultrasound of the pancreas": "ultrasound",
    "Transthoracic echocardiogram": "ultrasound",
    "Colonoscopy showing a polyp": "endoscopy",
    "Liver biopsy, hematoxylin and eosin": "microscopy",
    "Photomicrograph of the tumor": "microscopy",
    "Kaplan-Meier curves": "chart",
    "Flow chart of the study": "chart",
    "Intraoperative photograph": "other",
    # The first that is named; and words that name none.
    "Chest radiograph. A CT scan was done later": "xray",
    "Ultrasound-guided biopsy seen on CT": "ct",
    "X-ray diffraction of the powder": None,
    "Mass in the fundus of the stomach": None,
    "Give us the direct answer": None,
    "A large mass": None,
    "": None,
}


def told(spark: SparkSession, rows: list[tuple[Any, ...]]) -> list[tuple[str | None, str | None]]:
    frame = frame_of(
        spark, [(i, *r) for i, r in enumerate(rows)], "i int, t string, s string, f string"
    )
    found = frame.select("i", modality_of(*map(F.col, "tsf")).alias("m")).orderBy("i").collect()
    return [(r.m.modality, r.m.evidence) for r in found]


def test_words_of_captions(spark: SparkSession) -> None:
    found = told(spark, [(caption, None, "folder") for caption in CAPTIONS])
    assert dict(zip(CAPTIONS, (m for m, _ in found), strict=True)) == CAPTIONS


def test_what_is_stated_goes_first_with_its_evidence(spark: SparkSession) -> None:
    found = told(
        spark,
        [
            ("Axial CT scan", "MR", "dicom"),
            ("Axial CT scan", " pt ", "dicom"),
            ("Axial CT scan", "OT", "dicom"),
            ("Axial CT scan", "X-Ray", "vqa"),
            (None, "MRI", "vqa"),
            ("Axial CT scan", "", "vqa"),
            (None, "SC", "dicom"),
            (None, None, "roco"),
        ],
    )
    assert found == [
        ("mri", "tag: MR"),
        ("nuclear", "tag: pt"),
        ("ct", "caption: ct scan"),
        ("xray", "publisher: X-Ray"),
        ("mri", "publisher: MRI"),
        ("ct", "caption: ct scan"),
        (None, None),
        (None, None),
    ]


def test_questions_vote(spark: SparkSession) -> None:
    asked = [
        (1, "Is this a CT?", "no"),
        (1, "What is the modality?", "MRI"),
        (2, "Is this an MRI or a CT?", "CT"),
        (2, "Is the MRI normal?", "yes"),
        (2, "Is the CT normal?", "yes"),
        (3, "What type of imaging is this not?", "ultrasound"),
        (3, "Is the heart enlarged?", "yes"),
        (None, "Is this a CT?", "yes"),
    ]
    frame = frame_of(spark, asked, "figure_id bigint, question string, answer string")
    found = {r.figure_id: r.modality for r in modality_of_questions(frame).collect()}
    assert found == {1: "mri", 2: "ct"}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[words]\nxrey = ['x']", "no modality: xrey"),
        ("[words]\nct = ['(ct)']", "may not capture"),
        ("[words]\nct = ['(?:ct']", "no regular expression"),
    ],
)
def test_words_that_are_refused(toml: str, message: str) -> None:
    declared = {"tags": {}, "ignored": [], **tomllib.loads(toml)}
    with pytest.raises(UsageError, match=message):
        words_of(declared)


def test_scores_count_by_hand() -> None:
    pairs = [({"ct"}, "ct"), ({"ct"}, "mri"), ({"mri"}, None), ({"ct", "mri"}, "mri")]
    found = scores((frozenset(labels), said) for labels, said in pairs)
    assert found == {"ct": Score(1, 1, 2), "mri": Score(1, 2, 2)}
    assert list(found) == [m for m in MODALITIES if m in found]
    assert label_of(["computed", "tomography", "angiography"]) == {"ct"}


@pytest.mark.slow
def test_at_least_as_good_as_written_down(spark: SparkSession, shared_data: Path) -> None:
    """See docs/figures-captions.md."""
    captions = roco(spark, shared_data)
    for modality in ("ct", "mri", "xray", "ultrasound"):
        score = captions["measured"][modality]
        assert score.n > 100
        assert score.right >= 0.97 * score.said
        assert score.right >= 0.97 * score.n
    for modality in ("nuclear", "angiography"):
        score = captions["measured"][modality]
        assert score.right >= 0.95 * score.said
        assert score.right >= 0.85 * score.n
    assert captions["radiology_else"] <= 0.03 * captions["radiology_said"]
    asked = slake(spark, shared_data)
    assert {m: s.right == s.said for m, s in asked.items()} == dict.fromkeys(
        ("ct", "mri", "xray"), True
    )
    assert all(s.right >= 0.65 * s.n for s in asked.values())
    head_chest_abdomen = vqa_rad(spark, shared_data)
    assert sum(s.right for s in head_chest_abdomen.values()) >= 114
    assert sum(s.said - s.right for s in head_chest_abdomen.values()) <= 2

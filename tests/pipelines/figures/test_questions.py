"""Questions as delivered become clean ones, or ones with reasons."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from pipelines.figures.questions import questions_of
from schemas import QUESTIONS
from schemas.frames import frame_of

pytestmark = pytest.mark.slow


def cleaned(spark: SparkSession, rows: list[dict[str, Any]]) -> list[Row]:
    """`rows` with what a column of bronze.questions lacks set to NULL, or to the row's number."""
    names = [c.name for c in QUESTIONS.columns]
    full = [
        {"question_id": i, "figure_id": i, "source": "s", "record": str(i), "delivery_id": "d", **r}
        for i, r in enumerate(rows)
    ]
    frame = frame_of(spark, [tuple(r.get(n) for n in names) for r in full], QUESTIONS.struct)
    return questions_of(frame).orderBy("question_id").collect()


def test_texts(spark: SparkSession) -> None:
    texts = [
        (" Is  it\nbig? ", " Yes. ", "Is it big?", "yes"),
        ("Is it big?", "YES", "Is it big?", "yes"),
        ("Is it big?", "No", "Is it big?", "no"),
        ("How many?", "4.0", "How many?", "4"),
        ("How big?", "4.5 cm", "How big?", "4.5 cm"),
        ("Which?", "None", "Which?", "None"),
        ("Which?", "U.S.", "Which?", "U.S."),
        ("Which &amp; where?", "Heart \tlungs", "Which & where?", "Heart, lungs"),
        ("Are liver \tsplee n\tstomac h\tand colon seen?", "yes", None, "yes"),
    ]
    found = cleaned(spark, [{"question": q, "answer": a} for q, a, _, _ in texts])
    assert [r.answer for r in found] == [a for *_, a in texts]
    assert [r.question for r in found][:-1] == [q for *_, q, _ in texts][:-1]
    assert found[-1].question == "Are liver, spleen, stomach, and colon seen?"


def test_closed_type_and_language(spark: SparkSession) -> None:
    asked: list[dict[str, Any]] = [
        {"answer_type": "CLOSED ", "answer": "left", "question_type": "POS, PRES"},
        {"answer_type": "OPEN", "answer": "yes", "question_type": "ATRIB"},
        {"answer_type": None, "answer": "Yes", "question_type": "PRSE"},
        {"answer_type": " ", "answer": "lung", "question_type": "Other"},
        {"answer_type": "yes/no", "answer": "lung", "question_type": "OTHER"},
        {"answer_type": None, "answer": "不是", "question_type": None, "language": "zh-CN"},
        {
            "answer_type": None,
            "answer": "肺",
            "question_type": " ",
            "question": "图中哪个器官最大?",
        },
    ]
    found = cleaned(spark, [{"question": "Where is it?", **q} for q in asked])
    assert [r.closed for r in found] == [True, False, True, False, True, True, False]
    assert [r.question_type for r in found] == [
        *("position, presence", "attribute", "presence", "other", "other", None, None)
    ]
    assert [r.language for r in found] == ["en"] * 5 + ["zh"] * 2


def test_reasons(spark: SparkSession) -> None:
    asked: list[dict[str, Any]] = [
        {"question": "Is it big?", "answer": "yes", "figure_id": 1},
        {"question": "is  it BIG?", "answer": "Yes", "figure_id": 1},
        {"question": "Is it big?", "answer": "yes", "figure_id": 2},
        {"question": "Is it big?", "answer": "yes", "figure_id": 1, "source": "t"},
        {"question": " ", "answer": "yes", "figure_id": 1},
        {"question": "NULL", "answer": None, "figure_id": None},
        {"question": "Is it?", "answer": "", "figure_id": 1},
        {"question": "Is it?", "answer": "", "figure_id": 1},
    ]
    found = cleaned(spark, asked)
    assert [r.reasons for r in found] == [
        *([], ["repeated"], [], [], ["no_question"]),
        *(["no_answer", "no_figure", "no_question"], ["no_answer"], ["no_answer"]),
    ]


@pytest.mark.slow
def test_all_of_vqa_rad(spark: SparkSession, shared_data: Path) -> None:
    file = shared_data / "medical" / "vqa_rad" / "VQA_RAD_Dataset_Public.json"
    asked = [
        {
            **{k: str(q[k]) for k in ("question", "answer", "answer_type", "question_type")},
            "figure_id": zlib.crc32(q["image_name"].encode()),
        }
        for q in json.loads(file.read_text(encoding="utf-8"))
    ]
    found = cleaned(spark, asked)
    assert len(found) == 2248
    answers = Counter(r.answer for r in found if r.answer and r.answer.lower() in ("yes", "no"))
    assert set(answers) == {"yes", "no"}
    assert answers["yes"] >= 586
    assert answers["no"] >= 606
    assert sum(r.closed for r in found) == 1299
    types = {t for r in found for t in (r.question_type or "").split(", ")}
    assert types == {
        *("abnormality", "attribute", "color", "count", "modality", "organ", "other", "plane"),
        *("position", "presence", "size"),
    }
    assert {r.language for r in found} == {"en"}
    texts = [t for r in found for t in (r.question, r.answer)]
    assert not [t for t in texts if t != " ".join(t.split())]
    assert Counter(x for r in found for x in r.reasons) == {"repeated": 4}


@pytest.mark.slow
def test_all_of_slake(spark: SparkSession, shared_data: Path) -> None:
    asked = []
    for part in ("train", "validate", "test"):
        with gzip.open(shared_data / "medical" / "slake_text" / f"{part}.json.gz", "rt") as f:
            asked += [
                {
                    "question": q["question"],
                    "answer": str(q["answer"]),
                    "answer_type": q["answer_type"],
                    "question_type": q["content_type"],
                    "language": q["q_lang"],
                    "figure_id": q["img_id"],
                    "published_split": part,
                }
                for q in json.load(f)
            ]
    found = cleaned(spark, asked)
    assert len(found) == 14_028
    assert Counter(r.language for r in found) == {"en": 7033, "zh": 6995}
    assert sum(r.closed for r in found) == 5561
    assert {r.published_split for r in found} == {"train", "validate", "test"}
    reasons = Counter(x for r in found for x in r.reasons)
    assert set(reasons) == {"no_answer", "repeated"}
    assert reasons["no_answer"] == 1

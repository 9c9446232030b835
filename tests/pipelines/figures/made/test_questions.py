"""Made questions: answers follow from what is drawn, and no answer goes without the image."""

from __future__ import annotations

import io
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from PIL import Image

from pipelines.figures.made.figure import made_figure
from pipelines.figures.made.plan import Order
from pipelines.figures.made.questions import asked_image, questions
from pipelines.figures.made.scenes import Scene

pytestmark = pytest.mark.slow

_ORDER = Order(seed=2)


def test_answers_are_the_facts() -> None:
    nodule: dict[str, str | int] = {
        "age": 60, "sex": "man", "view": "posteroanterior", "finding": "nodule", "side": "left",
        "zone": "upper", "size_mm": 20,
    }  # fmt: skip
    asked = {q: a for n in range(30) for q, a, _ in questions(Scene("chest", nodule), _rnd(n))}
    assert asked["On which side is the nodule?"] == "left"
    assert asked["Is the nodule on the right side?"] == "No"
    assert asked["Is there a nodule?"] == "Yes"
    assert asked["Is there an effusion?"] == "No"
    assert asked["What kind of image is this?"] == "X-ray"
    assert "Is this image of the kind: MRI?" in asked


def _rnd(seed: int) -> random.Random:
    return random.Random(seed)


def test_the_same_question_has_several_answers() -> None:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    copies = 0
    for n in range(150):
        name, image, copied, rows = asked_image(_ORDER, n, 2000)
        assert asked_image(_ORDER, n, 2000)[1:] == (image, copied, rows)
        copies += copied is not None
        assert {row["image_name"] for row in rows} == {name}
        for row in rows:
            answers[row["question"]][row["answer"]] += 1
            closed = row["answer"] in ("Yes", "No")
            assert row["answer_type"] == ("CLOSED" if closed else "OPEN")
    often = {q: a for q, a in answers.items() if sum(a.values()) >= 12}
    assert len(often) >= 8
    for question, counts in often.items():
        assert max(counts.values()) < 0.9 * sum(counts.values()), question
    yes, no = (sum(a[x] for a in answers.values()) for x in ("Yes", "No"))
    assert 0.3 < yes / (yes + no) < 0.7
    assert 0 < copies < 40


def test_a_copy_shows_a_figure_with_a_caption_again() -> None:
    found: list[tuple[int, bytes]] = []
    for n in range(80):
        _, image, copied, _ = asked_image(_ORDER, n, 2000)
        if copied is not None:
            found.append((copied, image))
    for number, image in found[:3]:
        figure: Any = made_figure(_ORDER, number)
        sizes = [Image.open(io.BytesIO(data)).size for data in (figure.image, image)]
        assert sizes[0] == sizes[1]
        assert figure.copy_of is None

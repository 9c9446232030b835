"""Questions about made images whose answers can be seen in them, in the layout of VQA-RAD."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipelines.figures.made.copies import PIXEL_COPIES
from pipelines.figures.made.draw import jpeg
from pipelines.figures.made.figure import pixels_of, scene_of
from pipelines.figures.made.plan import VOLUME, Order, role
from pipelines.figures.made.scenes import Fact, Scene

QUESTION_BASE = 2**40
"""Images with questions have numbers from here on: they are none of the figures with captions."""

_COPIES_SHARE = 0.08  # of the images, which do copy a figure with a caption
_TEST_SHARE = 0.2  # of the questions, as published: not by image
_OPEN, _CLOSED = "OPEN", "CLOSED"
_ORGANS = {"chest": "CHEST", "abdomen": "ABD", "brain": "HEAD", "head": "HEAD"}
_MODALITIES = {
    "chest": "X-ray", "abdomen": "CT", "brain": "CT", "head": "MRI", "sonogram": "Ultrasound",
    "body": "PET", "retina": "Fundus photograph", "cells": "Microscopy", "chart": "Chart",
}  # fmt: skip

Asked = tuple[str, str, str]
"""Question, answer, and VQA-RAD's type of question, as PRES, POS, COUNT, SIZE, MODALITY."""


def questions(shown: Scene, rnd: random.Random) -> list[Asked]:
    """What can be asked about a scene without panels, in random order."""
    asked = [*_ASK[shown.kind](shown.facts, rnd), *_of_modality(shown.kind, rnd)]
    rnd.shuffle(asked)
    return asked


def is_closed(answer: str) -> bool:
    return answer in ("Yes", "No")


def _of_modality(kind: str, rnd: random.Random) -> list[Asked]:
    right = _MODALITIES[kind]
    asked = rnd.choice((right, rnd.choice(tuple(_MODALITIES.values()))))
    return [
        ("What kind of image is this?", right, "MODALITY"),
        (f"Is this image of the kind: {asked}?", _yes(asked == right), "MODALITY"),
    ]


def _yes(so: bool) -> str:
    return "Yes" if so else "No"


def _presence(what: str, there: str, rnd: random.Random, others: tuple[str, ...]) -> Asked:
    """Is it there? As often yes as no, where it can be."""
    asked = there if there != "none" and rnd.random() < 0.5 else rnd.choice(others)
    article = "" if asked.endswith("s") else "an " if asked[0] in "aeiou" else "a "
    return what.format(f"{article}{asked}"), _yes(asked == there), "PRES"


def _where(what: str, f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    side = rnd.choice(("right", "left"))
    return [
        (f"On which side is the {what}?", str(f["side"]), "POS"),
        (f"Is the {what} on the {side} side?", _yes(side == f["side"]), "POS"),
    ]


def _chest(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    finding = str(f["finding"])
    asked = [
        _presence("Is there {}?", finding, rnd, ("nodule", "effusion", "consolidation")),
        ("Are the lungs clear?", _yes(finding == "none"), "ABN"),
    ]
    if finding != "none":
        asked += _where(finding, f, rnd)
        asked.append((f"In which zone of the lung is the {finding}?", str(f["zone"]), "POS"))
    return asked


def _counted(what: str, f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    count = int(f["count"])
    guess = rnd.choice((count, count + 1, max(0, count - 1)))
    return [
        (f"How many {what} are there?", str(count), "COUNT"),
        (f"Are there exactly {guess} {what}?", _yes(guess == count), "COUNT"),
    ]


def _abdomen(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    asked = _counted("lesions", f, rnd)
    if f["count"]:
        organ = rnd.choice((str(f["organ"]), "liver", "spleen"))
        asked += [
            ("Which organ has a lesion?", str(f["organ"]), "POS"),
            (f"Does the {organ} have a lesion?", _yes(organ == f["organ"]), "PRES"),
            ("Is the lesion hypodense or hyperdense?", str(f["density"]), "ATTRIB"),
        ]
    return asked


def _brain(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    finding = str(f["finding"])
    asked = [_presence("Is there {}?", finding, rnd, ("hemorrhage", "infarct"))]
    if finding != "none":
        asked += _where(finding, f, rnd)
        asked.append((f"Which lobe has the {finding}?", str(f["lobe"]), "POS"))
    return asked


def _head(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    asked = [
        *_counted("lesions", f, rnd),
        ("Which sequence is this?", str(f["sequence"]), "MODALITY"),
    ]
    if f["count"]:
        asked += _where("lesion" if f["count"] == 1 else "group of lesions", f, rnd)
        asked.append(("Which lobe is affected?", str(f["lobe"]), "POS"))
    return asked


def _sonogram(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    finding = str(f["finding"])
    asked = [_presence("Is there {}?", finding, rnd, ("cyst", "stone", "solid nodule"))]
    if finding != "none":
        asked.append(("What is the focal finding?", finding, "PRES"))
    return asked


def _body(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    asked = [("Is there any abnormal focus of uptake?", _yes(bool(f["count"])), "ABN")]
    if f["count"]:
        asked.append(("In which region is the abnormal uptake?", str(f["region"]), "POS"))
    return asked


def _retina(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    return [
        _presence("Are there {}?", str(f["finding"]), rnd, ("hemorrhages", "exudates")),
        ("Which eye is shown?", str(f["side"]), "POS"),
    ]


def _cells(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    limit = rnd.choice((10, 20, 30, 40))
    return [
        ("Which stain is this?", str(f["stain"]), "MODALITY"),
        (f"Are there more than {limit} cells?", _yes(int(f["count"]) > limit), "COUNT"),
        ("How many cells are in the field?", str(f["count"]), "COUNT"),
    ]


def _chart(f: Mapping[str, Fact], rnd: random.Random) -> list[Asked]:
    group = rnd.choice((int(f["highest"]), rnd.randint(1, int(f["groups"]))))
    return [
        ("Which group is the highest?", str(f["highest"]), "ATTRIB"),
        (f"Is group {group} the highest?", _yes(group == f["highest"]), "ATTRIB"),
        ("How many groups are compared?", str(f["groups"]), "COUNT"),
        ("Which color are the data?", str(f["colour"]), "COLOR"),
        ("What is measured?", str(f["measure"]), "OTHER"),
    ]


_ASK: Mapping[str, Callable[[Mapping[str, Fact], random.Random], list[Asked]]] = {
    "chest": _chest,
    "abdomen": _abdomen,
    "brain": _brain,
    "head": _head,
    "sonogram": _sonogram,
    "body": _body,
    "retina": _retina,
    "cells": _cells,
    "chart": _chart,
}


def asked_image(
    order: Order, number: int, figures: int
) -> tuple[str, bytes, int | None, list[dict[str, Any]]]:
    """Name and JPEG of the n-th image with questions, what it copies, and its questions.

    A few are copies of one of the first of the `figures` that have captions, encoded anew, as
    published question sets share images with caption corpora. The questions are as in VQA-RAD's
    JSON.
    """
    rnd = random.Random(f"{order.seed}/{number}/questions")
    copied = _copied(order, rnd, figures)
    drawn = QUESTION_BASE + number if copied is None else copied
    shown = scene_of(_whole(order), drawn) if copied is None else scene_of(order, drawn)
    pixels = pixels_of(order, drawn, shown)
    if copied is not None:
        pixels = PIXEL_COPIES["re_encoded"](pixels, rnd)
    name = f"made{number:07d}.jpg"
    rows = [
        {
            "qid": number * 10 + n,
            "phrase_type": "test_freeform" if rnd.random() < _TEST_SHARE else "freeform",
            "image_name": name,
            "image_organ": _ORGANS.get(shown.kind, "OTHER"),
            "question": question,
            "question_type": kind,
            "answer": answer,
            "answer_type": _CLOSED if is_closed(answer) else _OPEN,
        }
        for n, (question, answer, kind) in enumerate(questions(shown, rnd)[:6])
    ]
    return name, jpeg(pixels, rnd.randint(80, 94)), copied, rows


def _whole(order: Order) -> Order:
    """Without compound figures, where "the lesion" would be in one of several panels."""
    return Order(order.seed, compound_share=0)


def _copied(order: Order, rnd: random.Random, figures: int) -> int | None:
    if rnd.random() >= _COPIES_SHARE:
        return None
    candidates: Iterator[int] = (int(rnd.random() * min(figures, VOLUME)) for _ in range(20))
    for number in candidates:
        if not role(order, number).what and not scene_of(order, number).panels:
            return number
    return None

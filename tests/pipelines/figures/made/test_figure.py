"""Figures by their numbers: the same each time, apart from one another, and copies near."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipelines.figures.made.copies import COPIES
from pipelines.figures.made.figure import Figure, made_figure, made_figures
from pipelines.figures.made.plan import Order
from schemas.figures import MODALITIES

pytestmark = pytest.mark.slow

_ORDER = Order(seed=5, copy_share=0.2, dirty_share=0.03, dirty_caption_share=0.03)


@cache
def _figures() -> tuple[Figure, ...]:
    return tuple(made_figures(_ORDER, 0, 360))


def test_a_figure_depends_on_seed_and_number_alone() -> None:
    assert tuple(made_figures(_ORDER, 0, 30)) == _figures()[:30]
    assert made_figure(_ORDER, 200) == _figures()[200]
    other = made_figure(Order(seed=6, copy_share=0.2), 200)
    assert (other.image, other.caption) != (_figures()[200].image, _figures()[200].caption)


def _pixels(figure: Figure) -> npt.NDArray[np.float64]:
    assert figure.image is not None
    gray = Image.open(io.BytesIO(figure.image)).convert("L")
    return np.asarray(gray.resize((32, 32), Image.Resampling.LANCZOS), dtype=float)


def _hash(figure: Figure) -> npt.NDArray[np.bool_]:
    """The usual perceptual hash: signs of the 64 lowest waves of 32 x 32 pixels."""
    at = np.arange(32)
    waves = np.cos(np.pi * (2 * at[None] + 1) * np.arange(8)[:, None] / 64)
    low = (waves @ _pixels(figure) @ waves.T).ravel()
    bits: npt.NDArray[np.bool_] = low > np.median(low[1:])
    return bits


def test_copies_look_like_their_originals_and_nothing_else_does() -> None:
    figures = [f for f in _figures() if not f.image_dirt]
    hashes = np.array([_hash(f) for f in figures])
    shown = [f.number if f.copy in (None, "caption") else f.copy_of for f in figures]
    near = {True: 0, False: 0}
    pairs = {True: 0, False: 0}
    for i in range(len(figures)):
        distances = (hashes[i] != hashes[i + 1 :]).sum(axis=1)
        for j, distance in enumerate(distances, i + 1):
            same = shown[i] == shown[j]
            pairs[same] += 1
            near[same] += int(distance) <= 5
    assert pairs[True] > 30
    assert near[True] > 0.8 * pairs[True]  # a crop by 2 % may move a few bits more
    assert near[False] < 1e-4 * pairs[False]


def test_each_sort_of_copy_is_what_it_says() -> None:
    by_number = {f.number: f for f in _figures()}
    seen = defaultdict(list)
    for copy in _figures():
        if copy.copy_of is None:
            continue
        first = by_number[copy.copy_of]
        assert first.number < copy.number
        assert copy.name.partition("_")[2] != first.name.partition("_")[2]
        assert (copy.kind, copy.facts) == (first.kind, first.facts)
        seen[str(copy.copy)].append((first, copy))
    assert set(seen) == set(COPIES)
    for sort, pairs in seen.items():
        for first, copy in pairs:
            assert first.image is not None
            assert copy.image is not None
            sizes = [Image.open(io.BytesIO(f.image or b"")).size for f in (first, copy)]
            assert (copy.image == first.image) is (sort == "bytes")
            if sort == "resized":
                assert sizes[1][0] < 0.95 * sizes[0][0]
            elif sort == "cropped":
                assert sizes[1] == tuple(side - round(side * 0.02) for side in sizes[0])
            elif sort != "caption":
                assert sizes[1] == sizes[0]
            if sort == "brightened":
                assert _pixels(copy).mean() > _pixels(first).mean() + 1


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_a_copied_caption_has_nearly_the_same_words_for_another_picture() -> None:
    by_number = {f.number: f for f in _figures()}
    pairs = [(by_number[f.copy_of or 0], f) for f in _figures() if f.copy == "caption"]
    assert pairs
    for first, copy in pairs:
        a, b = _words(first.caption or ""), _words(copy.caption or "")
        assert len(a & b) > 0.6 * len(a | b)  # labels, citations and licence lines differ
        assert copy.image != first.image


def test_captions_name_what_is_drawn_with_words_of_the_modality() -> None:
    words = {
        "ct": r"CT|[Cc]omputed tomography",
        "mri": "MRI",
        "xray": r"[Cc]hest X-ray|chest radiograph",
        "ultrasound": "Ultrasound|sonography",
        "nuclear": "PET",
        "fundus": "[Ff]undus",
        "microscopy": "icrograph|istology",
        "chart": "Bar chart|Line graph",
    }
    known = [f for f in _figures() if f.panels == 1 and not f.caption_dirt]
    assert {f.modality for f in known} == set(words) <= set(MODALITIES)
    for figure in known:
        caption = (figure.caption or "").replace("\ufb01", "fi")
        assert re.search(words[str(figure.modality)], caption), caption
        facts = json.loads(figure.facts)
        if figure.kind == "head":
            assert f"{facts['side']} {facts['lobe']} lobe" in caption
        if figure.kind == "cells":
            assert str(facts["count"]) in caption


def test_compound_figures_have_panels_between_gutters_and_mostly_marks_for_each() -> None:
    compound = [f for f in _figures() if f.kind == "compound" and not f.image_dirt]
    assert {2, 3, 4} <= {f.panels for f in compound}
    marked = 0
    for figure in compound:
        assert figure.image is not None
        gray = np.asarray(Image.open(io.BytesIO(figure.image)).convert("L"), dtype=int)
        flat = [max((np.ptp(gray, axis=a) < 40).sum(), 0) for a in (0, 1)]
        assert max(flat) >= 4, figure.number
        letter = "ABCDEF"[figure.panels - 1]
        marked += bool(re.search(rf"\({letter}\)|{letter}:", figure.caption or "", re.IGNORECASE))
    assert 0.6 < marked / len(compound) < 1


def test_the_clutter_of_publishers_comes_in_its_shares() -> None:
    captions = [f.caption or "" for f in _figures() if not f.caption_dirt]
    for pattern, low, high in (
        (r"^fig(ure)?\.? \d", 0.35, 0.55),
        (r"\[\d+[],-]|et al\.", 0.18, 0.38),
        (r"&#?\w+;", 0.08, 0.25),
        (r"licen[cs]e|permission|Ref\.|legend", 0.12, 0.3),
    ):
        share = sum(bool(re.search(pattern, c, re.IGNORECASE)) for c in captions) / len(captions)
        assert low < share < high, pattern


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_compound_figures_is_as_asked(share: float) -> None:
    order = Order(copy_share=0, dirty_share=0, dirty_caption_share=0, compound_share=share)
    assert {made_figure(order, n).kind == "compound" for n in range(8)} == {bool(share)}

"""captions.html from plain numbers: self-contained, escaped, and there without any figure."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipelines.figures.page.html import MADE_NOTE, captions_page
from pipelines.figures.page.story import (
    Bins,
    Copies,
    Copy,
    Leak,
    Picture,
    Sheet,
    Split,
    Stage,
    Story,
    Took,
    percent,
)
from tests.pages import check_whole, laid_out

_EVIL = '<script>alert("1")</script>\'<img src=https://example.org/x.png onerror=alert(1)>'


def _jpeg(gray: int = 90) -> bytes:
    out = io.BytesIO()
    Image.new("L", (60, 40), gray).save(out, "JPEG")
    return out.getvalue()


def _story() -> Story:
    picture = Picture(_jpeg(), "CT of the liver")
    return Story(
        funnel=(
            Stage("read", 1200, unit="figures"),
            Stage("images and panels", 1300),
            Stage("decoded", 1250, {"truncated": 30, "not_an_image": 20}),
            Stage("training examples", 1250),
        ),
        took=(Took("decode", 4.0, 1200), Took("splits", 1.5)),
        modalities=(
            Sheet("ct", 700, (picture,) * 11),
            Sheet("", 550, (Picture(_jpeg(), _EVIL),)),
        ),
        rejected=(Sheet("not_an_image", 20, (Picture(None, "", "not_an_image"),)),),
        copies=(
            Copies(
                picture,
                3,
                (Copy(picture, (("image", "2 bits apart"),)), Copy(Picture(None, "", "DICOM"), ())),
            ),
        ),
        pairs={"image": 3},
        caption_words=Bins((0, 10, 20), (4, 6), 12.0),
        longest_sides=Bins((0, 64, 128, 192), (0, 5, 5), 130.0),
        splits=(Split("train", 9, 1000, 5), Split("test", 3, 250, 2)),
        leaks=(Leak("captions, by row", 125, 100),),
        questions=7,
        sources=("pmc",),
        versions={"gold.vlm_examples": 3},
        made=True,
    )


def _empty() -> Story:
    none = Bins((0,), (), None)
    return Story((), (), (), (), (), {}, none, none, (), (), 0, (), {}, made=False)


def _hostile() -> Story:
    bad = Picture(_jpeg(), _EVIL)
    return replace(
        _story(),
        funnel=(Stage("read", 2, unit="figures"), Stage(_EVIL, 1, {_EVIL: 1})),
        took=(Took(_EVIL, 1.0),),
        modalities=(Sheet(_EVIL, 1, (bad,)),),
        rejected=(Sheet(_EVIL, 1, (bad, Picture(None, _EVIL, _EVIL))),),
        copies=(Copies(bad, 1, (Copy(bad, ((_EVIL, _EVIL),)),)),),
        pairs={_EVIL: 1},
        splits=(Split(_EVIL, 1, 1, 1),),
        leaks=(Leak(_EVIL, 1, 1),),
        sources=(_EVIL,),
        versions={_EVIL: 1},
    )


@pytest.mark.parametrize("story", [_story(), _empty(), _hostile()], ids=["some", "none", "hostile"])
def test_the_page_is_whole_and_needs_nothing_from_elsewhere(story: Story) -> None:
    check_whole(captions_page(story))


def test_whatever_comes_from_data_is_text() -> None:
    text = captions_page(_hostile())
    assert "<script" not in text
    assert "onerror=alert(1)>" not in text
    assert len(re.findall("&lt;script&gt;", text)) >= 14  # every place it was put into
    assert not re.search(r'(alt|title)="[^"]*<', text)


def test_the_page_tells_the_numbers() -> None:
    text = captions_page(_story())
    assert "<h1>1\u202f250 examples to train from</h1>" in text
    assert "\u221230</td><td>2.3\u00a0%" in text  # 30 of 1300 truncated
    assert "from 1\u202f200 figures" in text
    assert "<td>96.2\u00a0%</td>" in text  # 1250 of 1300
    assert "700, 11 of them here" in text
    assert "<summary>3 more</summary>" in text  # 8 of 11 show at once
    assert "image: 2 bits apart" in text
    assert "by way of another copy" in text
    assert "and 1 more" in text
    assert "<td>300</td>" in text  # 1200 images in 4 s
    assert "80.0\u00a0%" in text  # leaks
    assert "gold.vlm_examples version 3" in text
    assert MADE_NOTE in text
    assert MADE_NOTE not in captions_page(replace(_story(), made=False))


def test_what_is_not_drawn_is_a_field_with_its_reason() -> None:
    text = captions_page(_story())
    assert '<span class="none">not an image</span>' in text
    assert '<span class="none">DICOM</span>' in text
    assert text.count("<img") == 11 + 1 + 2


def test_a_page_without_figures_says_what_to_do() -> None:
    text = captions_page(_empty())
    assert "No figures yet" in text
    assert "jobs/ingest_figures.py" in text
    assert "<section" not in text
    rejected_all = replace(
        _story(), funnel=(Stage("read", 5, unit="figures"), Stage("decoded", 0, {"truncated": 5})),
        modalities=(), copies=(), splits=(), leaks=(), caption_words=Bins((0,), (), None),
    )  # fmt: skip
    text = captions_page(rejected_all)
    assert "No example to train from in 5 figures" in text
    assert "No example was accepted." in text
    assert "No copy was found." in text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(1, 3, "33.3\u00a0%"), (0, 5, "0.0\u00a0%"), (1, 10_000, "<\u202f0.1\u00a0%"), (0, 0, "")],
)
def test_shares_in_words(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_lays_the_page_out_without_sideways_scrolling(tmp_path: Path, width: int) -> None:
    assert laid_out(captions_page(_story()), tmp_path, width) == "true true 14 true"

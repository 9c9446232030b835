"""What the page tells is what is in the tables, and nothing that must stay there."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache
from typing import Any

import pytest
from PIL import Image
from pyspark.sql import SparkSession

from pipelines.figures.made.plan import Order
from pipelines.figures.page.html import captions_page
from pipelines.figures.page.story import Story, Took
from pipelines.figures.page_data import (
    CAPTIONED,
    DECODED,
    EXAMPLES,
    IN_A_SPLIT,
    IN_QUESTIONS,
    NOT_A_COPY,
    READ,
    TRAINED,
    UNACCOUNTED,
    funnel_of,
    leaks_of,
    story_of,
)
from pipelines.figures.page_pictures import A_REASON, copies_side_by_side, rejected_sheets
from tests.figure_tables import Rows, empty_tables, made_rows, tables_of
from tests.pages import check_whole

pytestmark = pytest.mark.slow

_ORDER = Order(seed=8, copy_share=0.2, dirty_share=0.12, dirty_caption_share=0.1)


@cache
def _rows() -> dict[str, Rows]:
    return dict(made_rows(_ORDER, 160))


@pytest.fixture(scope="module")
def story(spark: SparkSession) -> Story:
    tables = tables_of(spark, _rows())
    return story_of(tables, took=[Took("decode", 2.0, 160)], versions={"t": 1}, made=True)


def test_the_funnel_adds_up_to_what_the_tables_hold(story: Story) -> None:
    rows = _rows()
    stages = {s.name: s for s in story.funnel}
    assert list(stages) == [READ, EXAMPLES, DECODED, CAPTIONED, NOT_A_COPY, IN_A_SPLIT, TRAINED]
    assert stages[READ].left == stages[EXAMPLES].left == 160
    for before, after in zip(story.funnel[1:], story.funnel[2:], strict=False):
        assert after.left == before.left - sum(after.dropped.values())
    broken = Counter(r for row in rows["images"] for r in row["reasons"])
    assert stages[DECODED].dropped == dict(broken)
    assert set(broken) >= {"truncated", "blank", "too_many_pixels", "missing_image"}
    captions = Counter(
        row["reasons"][0]
        for row, image in zip(rows["captions"], rows["images"], strict=True)
        if row["reasons"] and not image["reasons"]
    )
    assert stages[CAPTIONED].dropped == dict(captions)
    copies = sum(row["reasons"] == ["duplicate"] for row in rows["rejected"])
    assert stages[NOT_A_COPY].dropped == {"duplicate": copies}
    near = sum(row["near_vqa"] for row in rows["accepted"])
    assert stages[TRAINED].dropped == {IN_QUESTIONS: near}
    assert stages[TRAINED].left == len(rows["vlm"]) == story.examples


def test_pictures_are_of_their_modality_and_bounded(story: Story) -> None:
    found = Counter(row["modality"] or "" for row in _rows()["accepted"])
    assert {s.name: s.count for s in story.modalities} == dict(found)
    texts = {row["caption"][:400] for row in _rows()["accepted"]}
    for sheet in story.modalities:
        assert len(sheet.pictures) == min(24, sheet.count)
        for picture in sheet.pictures:
            assert picture.caption in texts
            assert picture.jpeg is not None
            assert max(Image.open(io.BytesIO(picture.jpeg)).size) <= 128


def test_rejected_pictures_show_what_opens_and_say_what_does_not(story: Story) -> None:
    sheets = {s.name: s for s in story.rejected}
    found = Counter(r for row in _rows()["rejected"] for r in row["reasons"])
    assert {s.name: s.count for s in story.rejected} == dict(found)
    assert all(len(s.pictures) == min(s.count, A_REASON) for s in story.rejected)
    closed = {"too_many_pixels", "not_an_image", "missing_image", "empty_file"} & set(sheets)
    assert len(closed) >= 3
    for name in closed:
        assert {(p.jpeg, p.why) for p in sheets[name].pictures} == {(None, name)}
    for name in ("blank", "too_small", "not_english", "duplicate"):
        assert all(p.jpeg for p in sheets[name].pictures)
    assert any("Die " in p.caption for p in sheets["not_english"].pictures)


def test_copies_stand_beside_what_was_kept(story: Story) -> None:
    assert story.pairs == dict(Counter(row["kind"] for row in _rows()["pairs"]))
    ways = [way for group in story.copies for copy in group.copies for way in copy.found_by]
    assert {kind for kind, _ in ways} == {"bytes", "image", "caption"}
    assert any(how.endswith("apart") for kind, how in ways if kind == "image")
    for group in story.copies:
        assert group.kept is not None
        assert group.others >= len(group.copies) >= 1


def test_counts_of_captions_sizes_and_splits(story: Story) -> None:
    rows = _rows()
    assert sum(story.caption_words.counts) == len(rows["accepted"])
    assert sum(story.longest_sides.counts) == sum(not r["reasons"] for r in rows["images"])
    assert story.longest_sides.edges[-1] <= 576  # no empty bins above the largest
    for split in story.splits:
        assert split.examples == sum(r["split"] == split.name for r in rows["vlm"])
        groups = {r["group_id"] for r in rows["groups"] if r["split"] == split.name}
        assert split.groups == len(groups)


def test_a_split_by_row_leaks_and_this_one_does_not(spark: SparkSession) -> None:
    rows = dict(_rows())
    question = {"question": "?", "answer": "!", "closed": False, "language": "en"}
    published = [
        row | question | {"published_split": ("train", "Test_x")[i % 2]}
        for i, row in enumerate(rows["vlm"])
    ]
    leaks = {leak.way: leak for leak in leaks_of(tables_of(spark, rows | {"vqa": published}))}
    ours, by_row = leaks["captions, this one"], leaks["captions, by row"]
    assert ours.leaked == 0 < ours.test
    assert by_row.leaked > 0.3 * by_row.test
    assert "captions, as published" not in leaks
    train = {r["group_id"] for r in published if r["published_split"] == "train"}
    test = [r for r in published if r["published_split"] == "Test_x"]
    assert leaks["questions, as published"].test == len(test)
    assert leaks["questions, as published"].leaked == sum(r["group_id"] in train for r in test)


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("L", (60, 40), 90).save(out, "JPEG")
    return out.getvalue()


def _planted(number: int, **more: Any) -> dict[str, Any]:
    """A row for every table, rejected, with a name in its caption and an image that opens."""
    return {
        "figure_id": number, "part": 0, "example_id": number, "revision": 1, "source": "clinic",
        "record": "r", "format": "folder", "image": _jpeg(), "caption": "Doe^Archibald",
        "delivery_id": "0" * 64, "delivered_at": made_rows(_ORDER, 1)["figures"][0]["delivered_at"],
        "kind": "whole", "reasons": ["burned_in_annotation"], "mended": [], "panel_captions": [],
        "group_id": 1, "split": "train", "fold": 0, "copies_id": 1, "near_vqa": False,
        "duplicate_of": None if number == 1 else 1, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dicom", "what"),
    [
        ({"format": "dicom"}, "by the delivery's format"),
        ({"kind": "frame"}, "by the part's kind"),
        ({"bronze": b"\0" * 128 + b"DICM" + _jpeg()}, "by its bytes, whatever the format"),
    ],
)
def test_rejected_dicom_is_never_drawn_nor_quoted(
    spark: SparkSession, dicom: dict[str, Any], what: str
) -> None:
    bronze = dicom.get("bronze", _jpeg())
    rows = [_planted(n, **dicom) for n in (1, 2)]
    tables = tables_of(
        spark,
        {
            "figures": [r | {"image": bronze} for r in rows],
            "images": rows,
            "captions": rows,
            "rejected": rows,
            "groups": rows,
            "pairs": [{"example_id": 1, "other_id": 2, "kind": "image", "distance": 1}],
        },
    )
    sheets = rejected_sheets(tables.rejected, tables.images, tables.figures)
    copies = copies_side_by_side(
        tables.groups, tables.pairs, tables.images, tables.captions, tables.figures
    )
    shown = [p for s in sheets for p in s.pictures]
    beside = [p for g in copies for p in (g.kept, *(c.picture for c in g.copies)) if p]
    assert len(shown) == len(beside) == 2, what
    assert {(p.jpeg, p.caption, p.why) for p in (*shown, *beside)} == {(None, "", "DICOM")}


def test_the_same_image_is_drawn_where_it_is_no_dicom(spark: SparkSession) -> None:
    row = _planted(1)
    tables = tables_of(spark, {"figures": [row], "images": [row], "rejected": [row]})
    sheets = rejected_sheets(tables.rejected, tables.images, tables.figures)
    assert sheets[0].pictures[0].jpeg is not None
    killer = row | {"image": None, "reasons": ["crashes_decoder"]}
    tables = tables_of(spark, {"figures": [row], "images": [killer], "rejected": [killer]})
    sheets = rejected_sheets(tables.rejected, tables.images, tables.figures)
    assert sheets[0].pictures[0].jpeg is None  # it would crash this decoder, too


def test_images_of_questions_alone_and_what_nobody_judged_show_in_the_funnel(
    spark: SparkSession,
) -> None:
    asked = _planted(1, format="vqa", caption=None, reasons=[])
    lost = _planted(2, reasons=[])
    tables = tables_of(spark, {"figures": [asked, lost], "images": [asked, lost]})
    dropped = {s.name: dict(s.dropped) for s in funnel_of(tables)}
    assert dropped[CAPTIONED] == {IN_QUESTIONS: 1}
    assert dropped[IN_A_SPLIT] == {UNACCOUNTED: 1}


def test_a_row_counts_under_its_first_reason_alone(spark: SparkSession) -> None:
    image = _planted(1, image=None, reasons=["blank"])
    caption = _planted(1, caption=None, reasons=["no_caption"])
    bridging = _planted(3, reasons=["bridges_splits"], duplicate_of=None, split=None, fold=None)
    both = _planted(1, reasons=["blank", "no_caption"], duplicate_of=None)
    tables = tables_of(
        spark,
        {"figures": [image, bridging], "images": [image, _planted(3, reasons=[])],
         "captions": [caption], "groups": [bridging], "rejected": [both, bridging]},
    )  # fmt: skip
    dropped = {s.name: dict(s.dropped) for s in funnel_of(tables) if s.dropped}
    assert dropped == {DECODED: {"blank": 1}, IN_A_SPLIT: {"bridges_splits": 1}}


def test_empty_tables_make_a_page(spark: SparkSession) -> None:
    text = captions_page(story_of(empty_tables(spark), versions={}, made=False))
    check_whole(text)
    assert "No figures yet" in text


def test_the_page_of_real_tables_is_whole_and_small(story: Story) -> None:
    text = captions_page(story)
    check_whole(text)
    assert len(text) < 5_000_000

"""Panels of compound figures are found, in reading order; single images stay whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks.figure_panels import cut_singles, images_below, made, scores
from tests.made_images import smooth
from udfs.images.panels import Box, panel_boxes


def _figure(boxes: list[Box], size: tuple[int, int], gutter: int) -> Image.Image:
    """Panels of mid grays, which are neither white nor black anywhere."""
    figure = Image.new("L", size, gutter)
    for i, box in enumerate(boxes):
        panel = smooth(i, box.right - box.left, box.bottom - box.top, gray=True)
        figure.paste(panel.point(lambda v: 60 + v // 2), (box.left, box.top))
    return figure


LAYOUTS = {
    "side by side": [Box(0, 0, 200, 150), Box(210, 0, 410, 150)],
    "two rows": [Box(0, 0, 200, 150), Box(0, 160, 200, 300)],
    "grid": [
        Box(0, 0, 200, 150),
        Box(206, 0, 400, 150),
        Box(0, 156, 200, 300),
        Box(206, 156, 400, 300),
    ],
    "one beside two": [Box(0, 0, 200, 310), Box(208, 0, 400, 150), Box(208, 160, 400, 310)],
    "last row shorter": [Box(0, 0, 200, 150), Box(206, 0, 400, 150), Box(0, 156, 200, 300)],
    "columns out of step": [
        Box(0, 0, 200, 150),
        Box(210, 0, 410, 180),
        Box(0, 160, 200, 330),
        Box(210, 190, 410, 330),
    ],
}


@pytest.mark.parametrize("gutter", [255, 0], ids=["white", "black"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_panels_are_found_in_reading_order(layout: str, gutter: int) -> None:
    boxes = LAYOUTS[layout]
    figure = _figure(boxes, (412, 332), gutter)

    assert panel_boxes(np.asarray(figure)) == boxes


def test_letters_over_the_panels_are_no_panels() -> None:
    boxes = [Box(0, 40, 200, 190), Box(210, 40, 410, 190), Box(0, 230, 200, 380)]
    figure = _figure(boxes, (410, 380), 255)
    for letter, box in zip("ABC", boxes, strict=True):
        ImageDraw.Draw(figure).text(
            (box.left + 5, box.top - 28), letter, fill=0, font=ImageFont.load_default(22)
        )

    assert panel_boxes(np.asarray(figure)) == boxes


def test_lines_of_text_are_not_cut() -> None:
    page = Image.new("L", (400, 400), 255)
    for line in range(5):
        ImageDraw.Draw(page).text(
            (20, 20 + 75 * line), "Findings: none", fill=0, font=ImageFont.load_default(48)
        )

    assert panel_boxes(np.asarray(page)) == [Box(0, 0, 400, 400)]


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_empty_image_is_one_box(value: int) -> None:
    assert panel_boxes(np.full((90, 120), value, np.uint8)) == [Box(0, 0, 120, 90)]


def test_an_image_with_a_white_margin_is_one_box() -> None:
    figure = _figure([Box(50, 60, 350, 260)], (400, 300), 255)

    assert panel_boxes(np.asarray(figure)) == [Box(0, 0, 400, 300)]


@pytest.mark.slow
def test_composites_of_real_images(shared_data: Path) -> None:
    """Bars a little below what docs/figures-panels.md says of this half of the images."""
    images = images_below(shared_data / "medical", 1)
    found = scores(made(images, each=12))

    white, black = found["white gutters"], found["black gutters"]
    assert white.both / white.found > 0.97
    assert white.both / white.there > 0.95
    assert black.both / black.found > 0.82
    assert black.both / black.there > 0.80
    assert cut_singles(images) <= len(images) * 0.01

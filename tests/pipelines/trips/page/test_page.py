"""The page and the poster from plain numbers: self-contained, right and there without any pair."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.page.svg import nice_ceiling
from pipelines.trips.page import poster as poster_module
from pipelines.trips.page.html import MADE_NOTE, page
from pipelines.trips.page.maps import png, scale_bar_m, shades
from pipelines.trips.page.poster import poster
from pipelines.trips.page.story import DensityMap, Story, days, headline, length
from pipelines.trips.picture import View
from tests.pages import check_whole, laid_out

_VIEW = View(40.70, -74.02, 40.80, -73.92, 100, 132)


def _story() -> Story:
    counts = np.zeros((132, 100), dtype=np.int64)
    counts[50, 20:60], counts[60, 30] = 1, 500
    hours = tuple((10, h % 3) for h in range(24))
    return Story(
        first_day=date(2015, 12, 1),
        last_day=date(2015, 12, 1),
        window_s=28_800,
        trips=240,
        starts=540,
        pairs={50: 12, 200: 36},
        with_return={50: 24, 200: 24},
        hours={50: hours, 200: hours},
        bin_s=600,
        wait_bins={50: (12,) + (0,) * 47, 200: (12, 24) + (0,) * 46},
        maps=(DensityMap(_VIEW, counts), DensityMap(_VIEW, counts)),
        files=("made_<yellow>.csv.gz",),
        versions={"gold.return_trips": 3},
        made=True,
    )


def _without_pairs() -> Story:
    none = tuple((0, 0) for _ in range(24))
    return replace(
        _story(),
        first_day=None,
        last_day=None,
        trips=0,
        starts=0,
        pairs={50: 0, 200: 0},
        with_return={50: 0, 200: 0},
        hours={50: none, 200: none},
        wait_bins={50: (0,) * 48, 200: (0,) * 48},
        maps=(),
        made=False,
    )


@pytest.mark.parametrize("story", [_story(), _without_pairs()], ids=["pairs", "none"])
def test_the_page_is_whole_and_needs_nothing_from_elsewhere(story: Story) -> None:
    text = page(story)
    check_whole(text)


def test_the_page_tells_the_numbers_and_where_they_come_from() -> None:
    text = page(_story())
    assert "10\u00a0% of trips had a trip back" in text  # 24 of 240
    assert "36 pairs" in text
    assert "gold.return_trips version 3" in text
    assert "made_&lt;yellow&gt;.csv.gz" in text
    assert MADE_NOTE in text
    assert MADE_NOTE not in page(replace(_story(), made=False))


def test_half_of_the_waits_are_below_the_median() -> None:
    # 36 pairs, 12 below 10 min and 24 evenly from 10 to 20 min: the 18th lies a quarter into them.
    assert _story().median_wait_s(200) == pytest.approx(750)
    assert _without_pairs().median_wait_s(200) is None


@pytest.mark.parametrize("story", [_story(), _without_pairs()], ids=["pairs", "none"])
def test_the_poster_has_its_size_and_something_on_it(story: Story) -> None:
    out = io.BytesIO()
    poster(story, out)
    image = np.asarray(Image.open(out).convert("L"))
    assert image.shape == (poster_module.HEIGHT_PX, poster_module.WIDTH_PX)
    assert (image > 200).sum() > 1000  # letters at least


def test_a_map_has_a_pixel_for_a_pixel_and_brighter_where_more_starts() -> None:
    density = _story().maps[0]
    image = Image.open(io.BytesIO(png(density)))
    assert image.size == (100, 132)
    shade = shades(density.counts)
    assert shade[60, 30] > 200 > shade[50, 20] > shade[0, 0] == 0
    assert not shades(np.zeros((3, 3), dtype=np.int64)).any()


def test_the_scale_bar_is_round_and_below_a_sixth_of_the_width() -> None:
    # 0.1 degrees of latitude over 132 pixels: 84.2 m each, a sixth of 100 of them is 1404 m.
    assert scale_bar_m(_story().maps[0]) == 1000


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.9, 1), (1, 1), (2.7, 3), (62.5, 80), (81, 100), (1e-3, 1e-3)]
)
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert nice_ceiling(value)[0] == pytest.approx(top)


def test_words_for_times() -> None:
    assert length(28_800) == "8\u00a0h"
    assert length(12_300) == "3\u00a0h\u00a025\u00a0min"
    assert length(0) == "0\u00a0min"
    two = replace(_story(), last_day=date(2015, 12, 24))
    assert days(two) == "1 December 2015 to 24 December 2015"
    assert headline(_without_pairs()) == "No trip went back the way another came"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_lays_the_page_out_without_sideways_scrolling(tmp_path: Path, width: int) -> None:
    assert laid_out(page(_story()), tmp_path, width) == "true true 2 true"

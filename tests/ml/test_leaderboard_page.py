"""The leaderboard's page: it says what the numbers say, and holds nothing but itself."""

from __future__ import annotations

from dataclasses import replace

from ml.leaderboard.page import leaderboard_page
from ml.leaderboard.ranking import Entry, placed
from ml.leaderboard.story import Board, Curve, Said, Shown, headline, summary
from tests.ml.made_tables import square
from tests.ml.test_leaderboard_ranking import answers, entry, recipe

_GOOD = {i: float(i % 10 != 0) for i in range(60)}
_CLOSE = {i: float(i % 10 != 1 and i != 5) for i in range(60)}
_BAD = {i: float(i % 3 == 0) for i in range(60)}
_CURVE = Curve("align", [5, 10, 15], [("good", [3.0, None, 1.0]), ("bad", [4.0, 3.0, None])])
_SHOWN = Shown(
    square(80),
    "Is <it> there?",
    "yes & no",
    [Said("no_image", "", 0.0), Said("image", "yes <script>", 1.0), Said("swapped", "no", 0.5)],
    0.87,
)


def entries(**right: dict[int, float]) -> list[Entry]:
    """One prototype of each name, which answered these right."""
    return placed(
        [entry(n, [(recipe(n, fusion="resampler"), answers(n, "0", r))]) for n, r in right.items()]
    )


def board(*groups: list[Entry], made: bool = False) -> Board:
    return Board(groups, [_CURVE], [_SHOWN], [replace(_SHOWN, jpeg=None)], {"ml.runs": 4}, made)


def test_the_headline_names_the_first_two() -> None:
    assert headline(board(entries(good=_GOOD, bad=_BAD))) == "good scores 90.0, bad 33.3"
    assert headline(board(entries(good=_GOOD))) == "good scores 90.0"


def test_the_summary_says_who_cannot_be_told_apart() -> None:
    text = summary(board(entries(good=_GOOD, close=_CLOSE, bad=_BAD)))
    assert text.startswith("3 prototypes, tested on 60 questions of 1 fold by image.")
    assert "close cannot be told apart from the first" in text
    assert "bad cannot" not in text
    assert "good is at +90.0 points against no image." in text
    assert "told apart" not in summary(board(entries(good=_GOOD, bad=_BAD)))


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    blind = {1: 0.0, 2: 0.0, 3: 0.0}
    assert "+0.0 points against no image, which may be chance." in summary(
        board(entries(blind=blind))
    )


def test_the_page_shows_each_part_and_takes_texts_as_texts() -> None:
    page = leaderboard_page(board(entries(good=_GOOD, close=_CLOSE, bad=_BAD)))
    parts = ["Ranking on 60 questions", "What good sees", "Where good is good"]
    parts += ["Loss, stage align", "What it costs", "drawn by chance", "sure of it"]
    for part in parts:
        assert part in page
    assert "not told apart" in page
    assert "wall time in its steps, without validation" in page
    assert "Is &lt;it&gt; there?" in page
    assert "yes &lt;script&gt;" in page
    assert "<script" not in page
    assert "yes &amp; no" in page
    assert "87\u00a0% sure" in page
    assert "<i>nothing</i>" in page
    assert "image is gone" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert "http:" not in page
    assert "https:" not in page
    assert "made by a program" not in page
    assert "made by a program" in leaderboard_page(board(entries(good=_GOOD), made=True))


def test_what_was_not_recorded_is_a_dash() -> None:
    (first,) = entries(good=_GOOD)
    bare = replace(first.runs[0], parameters=None, seconds=None, peak_bytes=None, steps=None)
    page = leaderboard_page(board([replace(first, runs=(bare,))]))
    costs = page[page.index("What it costs") :]
    assert costs[: costs.index("</table>")].count("\u2013") == 4


def test_each_way_to_split_has_a_ranking_and_costs_stand_once() -> None:
    mine = entries(good=_GOOD, bad=_BAD)
    published = [replace(e, split_by="published_split", splits=("test",)) for e in mine]
    page = leaderboard_page(board(mine, published))
    assert page.count("Ranking on 60 questions") == 2
    assert "Fold 0, version 3 of the questions" in page
    assert "of the published test split" in page
    costs = page[page.index("What it costs") :]
    costs = costs[: costs.index("</table>")]
    assert (costs.count("<tr><th>good"), costs.count("<tr><th>bad")) == (1, 1)


def test_one_image_draws_without_an_interval() -> None:
    assert "Ranking on 1 question of" in leaderboard_page(board(entries(only={1: 1.0})))

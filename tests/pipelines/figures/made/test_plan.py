"""Who is a copy, who is dirty and what belongs together: by number, in the shares asked for."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from pipelines.figures.made.plan import ROLES, VOLUME, Order, original, provenance, role

pytestmark = pytest.mark.slow

_ORDER = Order(seed=3, copy_share=0.12, dirty_share=0.09, dirty_caption_share=0.05)


def test_a_volume_has_every_oddity_in_its_share_and_every_sort_alike() -> None:
    for volume in (0, 7):
        numbers = range(volume * VOLUME, (volume + 1) * VOLUME)
        found = Counter(role(_ORDER, n) for n in numbers)
        by_what: dict[str, list[int]] = defaultdict(list)
        for kind in ROLES:
            by_what[kind.what].append(found[kind])
        assert {what: sum(counts) for what, counts in by_what.items()} == {
            "": 740,
            "copy": 120,
            "image": 90,
            "caption": 50,
        }
        for what in ("copy", "image", "caption"):
            assert max(by_what[what]) - min(by_what[what]) <= 1


def test_a_copy_copies_an_earlier_figure_without_oddities() -> None:
    found = [(n, original(_ORDER, n)) for n in range(1, 3000) if role(_ORDER, n).what == "copy"]
    known = [(n, m) for n, m in found if m is not None]
    assert len(known) > 0.99 * len(found)
    assert all(m < n and not role(_ORDER, m).what for n, m in known)
    assert any(n // VOLUME != m // VOLUME for n, m in known)
    assert original(_ORDER, 0) is None


def test_figures_of_an_article_follow_one_another_and_share_patient_and_licence() -> None:
    places = [provenance(_ORDER, n) for n in range(2 * VOLUME)]
    by_article = defaultdict(list)
    for place in places:
        by_article[place.article].append(place)
    assert {len(group) for group in by_article.values()} == {1, 2, 3, 4, 5, 6}
    for group in by_article.values():
        assert [place.figure for place in group] == list(range(1, len(group) + 1))
        assert len({(place.patient, place.licence) for place in group}) == 1
    articles_of = defaultdict(set)
    for place in places:
        if place.patient:
            articles_of[place.patient].add(place.article)
    several = sum(len(articles) > 1 for articles in articles_of.values())
    assert 0.02 < several / len(articles_of) < 0.2


def test_shares_that_exceed_the_whole_are_refused() -> None:
    with pytest.raises(ValueError, match="exceed 1 together"):
        Order(copy_share=0.5, dirty_share=0.4, dirty_caption_share=0.2)
    assert all(role(Order(copy_share=0, dirty_share=1, dirty_caption_share=0), n).what == "image"
               for n in range(50))  # fmt: skip

"""Who is what: copies, dirt, articles, patients and licences by the figures' numbers.

Numbers come in volumes of VOLUME. All of a volume follows from (seed, volume) and the shares asked
for, so that a figure does not depend on how many there are, and shares are exact in each volume.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipelines.figures.made.copies import COPIES
from pipelines.figures.made.dirt import CAPTION_DIRT, CAPTION_FLAWS, IMAGE_DIRT, IMAGE_FLAWS

VOLUME = 1000

_TRIES = 12
_FIGURES_AN_ARTICLE = (0.24, 0.22, 0.2, 0.15, 0.11, 0.08)  # 1 to 6
_ONE_PATIENT = 0.4  # share of articles that are about one patient
_SAME_PATIENT = 0.08  # of those, share about the patient of an earlier article
_LICENCES = ("CC BY", "CC BY-NC", "CC0", "CC BY-SA", "CC BY-NC-ND", "NO-CC CODE")
_LICENCE_SHARES = (0.66, 0.14, 0.06, 0.04, 0.06, 0.04)
_FIRST_ARTICLE = 1_000_000


@dataclass(frozen=True)
class Order:
    """What to make; shares of all figures, of every sort or kind within them alike.

    `copy_share` are copies of earlier figures, `dirty_share` have an odd image and
    `dirty_caption_share` an odd caption, no figure more than one of these; `compound_share` of the
    others, at random, have several panels. Raises ValueError where the shares exceed the whole.
    """

    seed: int = 1
    copy_share: float = 0.08
    dirty_share: float = 0.05
    dirty_caption_share: float = 0.04
    compound_share: float = 0.2

    def __post_init__(self) -> None:
        odd = self.copy_share + self.dirty_share + self.dirty_caption_share
        if min(self.copy_share, self.dirty_share, self.dirty_caption_share) < 0 or odd > 1:
            raise ValueError("shares of copies, dirty images and dirty captions exceed 1 together")


@dataclass(frozen=True)
class Role:
    """What is odd about a figure: `what` is "copy", "image" or "caption", and empty for nothing."""

    what: str = ""
    sort: str = ""


ROLES: tuple[Role, ...] = (
    Role(),
    *(Role("copy", sort) for sort in COPIES),
    *(Role("image", sort) for sort in (*IMAGE_DIRT, *IMAGE_FLAWS)),
    *(Role("caption", sort) for sort in (*CAPTION_DIRT, *CAPTION_FLAWS)),
)


@lru_cache(maxsize=8192)
def _roles(order: Order, volume: int) -> npt.NDArray[np.int8]:
    """The index in ROLES of each figure of a volume."""
    rng = _generator(order.seed, volume, 1)
    places = rng.permutation(VOLUME)
    roles = np.zeros(VOLUME, np.int8)
    start, until = 0, 0.0
    for what, share in (
        ("copy", order.copy_share),
        ("image", order.dirty_share),
        ("caption", order.dirty_caption_share),
    ):
        kinds = np.array([n for n, role in enumerate(ROLES) if role.what == what], np.int8)
        until += share
        end = round(VOLUME * until)
        first = int(rng.integers(len(kinds)))  # who gets one more varies from volume to volume
        roles[places[start:end]] = kinds[(first + np.arange(end - start)) % len(kinds)]
        start = end
    return roles


def role(order: Order, number: int) -> Role:
    return ROLES[_roles(order, number // VOLUME)[number % VOLUME]]


def original(order: Order, number: int) -> int | None:
    """The figure, without any oddity, that a copy copies: any before it, each as likely.

    None where none was met in a few tries, as for the first figures; the copy is an original then.
    """
    rnd = random.Random(f"{order.seed}/{number}/original")
    for _ in range(_TRIES if number else 0):
        candidate = int(number * rnd.random())
        if not role(order, candidate).what:
            return candidate
    return None


@dataclass(frozen=True)
class Provenance:
    """Where a figure is from: `figure` counts in its article from 1; `patient` may be unknown."""

    article: str
    figure: int
    patient: str | None
    licence: str


@lru_cache(maxsize=8)
def _articles(seed: int, volume: int) -> tuple[Sequence[int], Sequence[Provenance]]:
    """The article of each figure of a volume, and the articles with the first figure of each."""
    rng = _generator(seed, volume, 2)
    sizes = 1 + rng.choice(len(_FIGURES_AN_ARTICLE), VOLUME, p=_FIGURES_AN_ARTICLE)
    ends = np.cumsum(sizes)
    article = np.searchsorted(ends, np.arange(VOLUME), side="right")
    count = int(article[-1]) + 1
    licences = rng.choice(len(_LICENCES), count, p=_LICENCE_SHARES)
    about_one, known = rng.random(count) < _ONE_PATIENT, rng.random(count) < _SAME_PATIENT
    patients: list[str | None] = []
    earlier: list[str] = []
    for n in range(count):
        if not about_one[n]:
            patients.append(None)
            continue
        again = bool(known[n] and earlier)
        name = earlier[rng.integers(len(earlier))] if again else f"P{volume * VOLUME + n:08d}"
        patients.append(name)
        earlier.append(name)
    first = (ends - sizes)[:count].tolist()
    places = [
        Provenance(
            f"PMC{_FIRST_ARTICLE + volume * VOLUME + n}",
            first[n],
            patients[n],
            _LICENCES[licences[n]],
        )
        for n in range(count)
    ]
    return article.tolist(), places


def provenance(order: Order, number: int) -> Provenance:
    volume, place = divmod(number, VOLUME)
    article_of, articles = _articles(order.seed, volume)
    article = articles[article_of[place]]
    return Provenance(article.article, place - article.figure + 1, article.patient, article.licence)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(key))

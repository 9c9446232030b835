"""What a model is compared with, so that a score says something about seeing.

`majority` and `retrieval` answer without any image or model, from the training rows alone;
`swapped` gives the model an image of another group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from ml.evaluation.scores import normalised


class Asked(NamedTuple):
    """A question with its answer, as of a row of gold.vqa_examples."""

    question: str
    answer: str
    closed: bool
    question_type: str | None


class Majority:
    """Answers with the most frequent answer of the training questions of the same type.

    Type is `question_type`, closed and open ones apart; a type that training lacks falls back to
    all closed or all open questions, and then to all. Answers are counted as normalised words and
    given in their most frequent spelling; of equally frequent ones the first in the alphabet.
    """

    def __init__(self, training: Iterable[Asked]) -> None:
        counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
        spellings: dict[str, Counter[str]] = defaultdict(Counter)
        for asked in training:
            words = " ".join(normalised(asked.answer))
            spellings[words][asked.answer] += 1
            for key in _types(asked.closed, asked.question_type):
                counts[key][words] += 1
        self._answers = {key: _most(spellings[_most(found)]) for key, found in counts.items()}

    def answer(self, *, closed: bool, question_type: str | None) -> str:
        """ "" where there was no training question at all."""
        keys = _types(closed, question_type)
        return next((self._answers[key] for key in keys if key in self._answers), "")


def _types(closed: bool, question_type: str | None) -> tuple[Hashable, ...]:
    return (closed, question_type), (closed,), ()


def _most(counts: Counter[str]) -> str:
    return min(counts, key=lambda text: (-counts[text], text))


class Retrieval:
    """Answers with the answer of the most similar training question.

    Similarity is the cosine of TF-IDF vectors of normalised words, weighted (1 + log tf) *
    (1 + log(N / df)); of equally similar questions the first. Each word knows the questions that
    have it, so a look-up adds up only those.
    """

    def __init__(self, training: Sequence[Asked]) -> None:
        self._answers = [asked.answer for asked in training]
        bags = [Counter(normalised(asked.question)) for asked in training]
        df = Counter(word for bag in bags for word in bag)
        self._idf = {word: 1 + float(np.log(len(bags) / n)) for word, n in df.items()}
        places: dict[str, list[int]] = defaultdict(list)
        weights: dict[str, list[float]] = defaultdict(list)
        for place, bag in enumerate(bags):
            vector = self._vector(bag)
            length = sum(w * w for w in vector.values()) ** 0.5
            for word, weight in vector.items():
                places[word].append(place)
                weights[word].append(weight / length)
        self._postings = {w: (np.array(places[w]), np.array(weights[w])) for w in places}

    def _vector(self, bag: Mapping[str, int]) -> dict[str, float]:
        known = ((word, n) for word, n in bag.items() if word in self._idf)
        return {word: (1 + float(np.log(n))) * self._idf[word] for word, n in known}

    def answer(self, question: str) -> str | None:
        """None where no training question shares a word with it."""
        if not (vector := self._vector(Counter(normalised(question)))):
            return None
        similar = np.zeros(len(self._answers))
        for word, weight in vector.items():
            places, weights = self._postings[word]
            similar[places] += weight * weights
        # Rounding must not decide between questions of the same words.
        return self._answers[int(np.argmax(np.round(similar, 9)))]


def swapped(images: Mapping[int, int], *, seed: int = 0) -> dict[int, int]:
    """For each image another one, of another group; `images` are group ids by image id.

    Each image is used once, unless one group has more than half of them. Which one it is follows
    from the ids and the seed. Empty where there is but one group.
    """
    order = sorted(images, key=lambda i: (_hash(seed, images[i]), images[i], _hash(seed, i), i))
    sizes = Counter(images.values())
    if len(sizes) < 2:
        return {}
    # Groups lie in one piece each; a turn by the size of the largest leaves none in its own.
    shift = max(sizes.values())
    if 2 * shift <= len(order):
        return {image: order[(k + shift) % len(order)] for k, image in enumerate(order)}
    largest = max(sizes, key=lambda group: sizes[group])
    inside = [image for image in order if images[image] == largest]
    others = [image for image in order if images[image] != largest]
    return {image: others[k % len(others)] for k, image in enumerate(inside)} | {
        image: inside[k % len(inside)] for k, image in enumerate(others)
    }


def _hash(seed: int, number: int) -> int:
    digest = blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")

"""Scores of one answer to one question; means and intervals are in `bootstrap`.

Published scores of medical VQA go back to the scripts of LLaVA-Med (arXiv 2306.00890), whose
normalising is followed here. Some of what those scripts compute is not what it is called, so the
scores are defined anew where that is so, and each definition says how it differs:

- their recall and F1 count a word of the prediction as often as it is repeated there, so that
  "lung lung" has more of "left lung" than "lung" has. Here a word counts as often as both have it;
- their exact match is the share of the prediction's words that the truth has. Here both are equal;
- their closed accuracy is a substring test: see `substring`. `strict` stands beside it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

CLOSED_METRICS = ("strict", "substring")
OPEN_METRICS = ("recall", "precision", "f1", "exact", "bleu")
METRICS = (*CLOSED_METRICS, *OPEN_METRICS)

_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = frozenset(("a", "an", "the"))
_BLEU_ORDER = 4


def normalised(text: str) -> list[str]:
    """The words that are compared: lower case, no punctuation, numbers as digits, no articles.

    Punctuation inside a word parts it ("t2-weighted": t2, weighted), apostrophes, commas within
    numbers and full stops between single letters ("P.A.": pa) vanish, a decimal point stays. An
    answer of nothing but articles, such as option A, stays as it is.
    """
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower())
    text = re.sub(r"['\u2019`]", "", text)
    text = re.sub(r"(?<=\b[^\W\d_])\.(?=[^\W\d_]\b)", "", text)
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", " ", text)
    kept = (" " if _is_punctuation(c) else c for c in text)
    words = [_NUMBERS.get(word, word) for word in "".join(kept).split()]
    return [word for word in words if word not in _ARTICLES] or words


def _is_punctuation(character: str) -> bool:
    return character not in ".%" and unicodedata.category(character)[0] in "PS"


def strict(prediction: str, truth: str) -> float:
    """1 where the prediction begins with the words of the truth, else 0.

    For yes and no that is the first word. "Normal" is no "no", and "yes and no" is a "yes". An
    answer that says neither is wrong, and it counts.
    """
    said, meant = normalised(prediction), normalised(truth)
    if not meant:
        return float(not said)
    return float(said[: len(meant)] == meant)


def substring(prediction: str, truth: str) -> float:
    """1 where the truth is anywhere in the prediction, letter by letter, as in LLaVA-Med.

    For comparison with published figures alone: "no" is in "normal", in "not" and in "unknown", and
    "yes and no" is always right. One version of the script leaves wrong answers with a yes or a no
    in them out of the denominator; here every closed question counts.
    """
    return float(" ".join(normalised(truth)) in " ".join(normalised(prediction)))


def overlap(prediction: str, truth: str) -> tuple[float, float, float]:
    """Recall, precision and F1 of words, order and length apart.

    A word counts as often as both have it. Where one of both has no words all three are 1 if
    neither has, else 0.
    """
    said, meant = Counter(normalised(prediction)), Counter(normalised(truth))
    if not said or not meant:
        return (float(said == meant),) * 3
    both = (said & meant).total()
    recall, precision = both / meant.total(), both / said.total()
    return recall, precision, 2 * both / (said.total() + meant.total())


def exact(prediction: str, truth: str) -> float:
    """1 where both are the same words in the same order, else 0."""
    return float(normalised(prediction) == normalised(truth))


def bleu(prediction: str, truth: str) -> float:
    """Sentence BLEU on normalised words, up to 4-grams, 0 to 1.

    Answers of one to three words have no 4-grams. So the geometric mean is over the orders that the
    prediction has, and the k-th order without a match counts as half^k of one match ("effective
    order" and exponential smoothing, as sacreBLEU does for sentences). No word in common is 0.
    """
    said, meant = normalised(prediction), normalised(truth)
    if not said or not meant:
        return float(said == meant)
    logs, smooth = [], 1.0
    for n in range(1, min(_BLEU_ORDER, len(said)) + 1):
        matches = (_grams(said, n) & _grams(meant, n)).total()
        if matches == 0:
            if n == 1:
                return 0.0
            smooth /= 2
        logs.append(math.log((matches or smooth) / (len(said) - n + 1)))
    brevity = min(0.0, 1 - len(meant) / len(said))
    return math.exp(brevity + sum(logs) / len(logs))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def scores_of(prediction: str, truth: str, *, closed: bool) -> dict[str, float | None]:
    """Each of METRICS, None where it is not for such a question."""
    if closed:
        found = (strict(prediction, truth), substring(prediction, truth))
        return dict.fromkeys(METRICS) | dict(zip(CLOSED_METRICS, found, strict=True))
    recall, precision, f1 = overlap(prediction, truth)
    found_open = (recall, precision, f1, exact(prediction, truth), bleu(prediction, truth))
    return dict.fromkeys(METRICS) | dict(zip(OPEN_METRICS, found_open, strict=True))

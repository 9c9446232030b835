"""How times grow with the number of trips: the exponent between sizes, and what it foretells."""

from __future__ import annotations

import math
from collections.abc import Sequence

Sample = tuple[int, float]
"""Trips, and the seconds that they took."""


def exponent(smaller: Sample, larger: Sample) -> float:
    """P of seconds ~ trips^p between two sizes; 1 is linear, 2 is every trip with every other."""
    return math.log(larger[1] / smaller[1]) / math.log(larger[0] / smaller[0])


def foretold_s(known: Sequence[Sample], trips: int) -> float:
    """Seconds for `trips` trips, by the growth between the two largest sizes that are known.

    Linear where one size is known, and never less: at small sizes what is fixed hides the growth.
    0 where nothing is known.
    """
    if not known:
        return 0.0
    *_, last = sizes = sorted(known)
    p = max(1.0, exponent(sizes[-2], last)) if len(sizes) > 1 else 1.0
    return float(last[1] * (trips / last[0]) ** p)

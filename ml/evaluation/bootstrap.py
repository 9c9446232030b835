"""Intervals by the bootstrap over images: questions about one image are no independent trials.

Whole clusters are drawn with replacement (Davison and Hinkley 1997, section 3.8) and the interval
is between percentiles of the resampled score. For a difference of two controls give the difference
of each question's scores: both are then resampled together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95
_AT_ONCE = 1 << 22  # draws that are in memory at a time, 32 MB


def interval(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """Ends of the interval of sum(values) / sum(weights); weights are 1 where not given.

    `values` [N] are sums where there are weights, as log-likelihoods of captions over tokens.
    `clusters` [N] are ids that may be anything numpy compares. None for fewer than two clusters,
    of which nothing can be told. The same arguments give the same interval.
    """
    totals = np.asarray(values, float)
    counts = np.ones_like(totals) if weights is None else np.asarray(weights, float)
    ids, place = np.unique(np.asarray(clusters), return_inverse=True)
    if len(ids) < 2:
        return None

    def by_cluster(of: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(place, of).astype(float)

    drawn = _resampled(by_cluster(totals), by_cluster(counts), seed, resamples)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def _resampled(
    totals: NDArray[np.float64], counts: NDArray[np.float64], seed: int, resamples: int
) -> NDArray[np.float64]:
    """The score of each resample, [resamples]."""
    rng = np.random.default_rng(seed)
    n = len(totals)
    parts = []
    for start in range(0, resamples, step := max(1, _AT_ONCE // n)):
        chosen = rng.integers(0, n, (min(step, resamples - start), n))
        parts.append(totals[chosen].sum(1) / counts[chosen].sum(1))
    return np.concatenate(parts)

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
_AT_ONCE = 1 << 23  # draws that are in memory at a time, 64 MB

Floats = NDArray[np.float64]


def interval(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """`intervals` of one column of values, [N]; None where nothing can be told."""
    column = np.asarray(values, float)[:, None]
    weight = None if weights is None else np.asarray(weights, float)[:, None]
    ((low, high),) = intervals(
        column, clusters, weights=weight, seed=seed, resamples=resamples, level=level
    )
    return None if np.isnan(low) else (float(low), float(high))


def intervals(
    values: Floats,
    clusters: ArrayLike,
    *,
    weights: Floats | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Floats:
    """Ends [K, 2] of the intervals of sum(values) / sum(weights), for each column of `values`.

    `values` [N, K]: NaN where a row has no such value. They are sums where there are `weights`
    [N, K], as log-likelihoods of captions over tokens; weights are 1 where not given. `clusters`
    [N] are ids that numpy can sort. NaN for a column with values in fewer than two clusters, of
    which nothing can be told. All columns share the resamples; the same arguments give the same.
    """
    there = ~np.isnan(values)
    ids, place = np.unique(np.asarray(clusters), return_inverse=True)
    if len(ids) < 2:
        return np.full((values.shape[1], 2), np.nan)
    totals = _by_cluster(np.where(there, values, 0.0), place, len(ids))
    counts = _by_cluster(there * (1.0 if weights is None else weights), place, len(ids))
    rng = np.random.default_rng(seed)
    even = np.full(len(ids), 1 / len(ids))
    drawn = []
    for start in range(0, resamples, step := max(1, _AT_ONCE // len(ids))):
        times = rng.multinomial(len(ids), even, min(step, resamples - start)).astype(float)
        with np.errstate(invalid="ignore"):  # a resample may have no value of a rare column
            drawn.append((times @ totals) / (times @ counts))
    tail = (1 - level) / 2
    ends = np.nanquantile(np.concatenate(drawn), [tail, 1 - tail], axis=0).T
    ends[(counts > 0).sum(0) < 2] = np.nan
    return ends


def _by_cluster(rows: Floats, place: NDArray[np.intp], clusters: int) -> Floats:
    sums = np.zeros((clusters, rows.shape[1]))
    np.add.at(sums, place, rows)
    return sums

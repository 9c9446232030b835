"""Stage 1 without questions: how well captions are foretold, and found for their images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.bootstrap import Floats, intervals
from ml.evaluation.summary import Score

RECALL_AT = (1, 5, 10)


def hits(similarity: Floats, k: int) -> NDArray[np.bool_]:
    """Whether the right column is among the k first of its row: [N] of `similarity` [N, N].

    Row i belongs to column i. Others that are just as similar are ahead of it, or NaN, so that a
    model for which all are alike, or NaN, finds nothing.
    """
    own = np.diagonal(similarity)[:, None]
    ahead = (~(similarity < own)).sum(1) - 1
    return ahead < k


def retrieval_scores(likelihood: Floats, without_image: Floats) -> list[Score]:
    """Recall at 1, 5 and 10 in both directions, over a pool of N images and their captions.

    `likelihood` [N, N] is the log-likelihood of caption j given image i, `without_image` [N] given
    none. Their difference is compared, the pointwise mutual information of both: else the shortest
    caption would be the likeliest for every image. By chance recall at k is k / N.
    """
    similarity = likelihood - without_image
    n = len(similarity)
    named: dict[str, Floats] = {}
    for k in RECALL_AT:
        if k < n:
            named[f"image_to_text_recall_at_{k}"] = hits(similarity, k).astype(float)
            named[f"text_to_image_recall_at_{k}"] = hits(similarity.T, k).astype(float)
    if not named:
        return []
    values = np.column_stack(list(named.values()))
    return [
        Score("image", metric, "all", "all", n, float(values[:, i].mean()), *_known(ends))
        for i, (metric, ends) in enumerate(zip(named, intervals(values, np.arange(n)), strict=True))
    ]


def perplexity_scores(
    log_likelihoods: dict[str, Floats], tokens: Floats, images: NDArray[np.int64]
) -> list[Score]:
    """Perplexity of captions for each control, and what the image adds to a token's likelihood.

    `log_likelihoods` [N] of whole captions by control, in nats, in the order of `tokens` [N], which
    says how many each has, and of `images` [N], by which is resampled. Perplexity is exp(-mean of
    a token). The difference to another control is in nats a token: above 0 the image helps.
    """
    named = {("perplexity", control): -found for control, found in log_likelihoods.items()}
    image = log_likelihoods["image"]
    named |= {
        ("log_likelihood", f"image minus {control}"): image - found
        for control, found in log_likelihoods.items()
        if control != "image"
    }
    values = np.column_stack(list(named.values()))
    weights = np.repeat(tokens[:, None], values.shape[1], 1)
    ends = intervals(values, images, weights=weights)
    means = values.sum(0) / tokens.sum()
    found = []
    for (metric, control), mean, of in zip(named, means, ends, strict=True):
        if metric == "perplexity":
            mean, of = np.exp(mean), np.exp(of)
        found.append(Score(control, metric, "all", "all", len(tokens), float(mean), *_known(of)))
    return found


def _known(ends: Floats) -> tuple[float | None, float | None]:
    low, high = (None if np.isnan(end) else float(end) for end in ends)
    return low, high

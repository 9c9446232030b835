"""Bytes that a rank sends for one optimiser step."""

from __future__ import annotations

from ml.memory.counts import Counts
from ml.memory.states import Sharding


def communication(counts: Counts, sharding: Sharding) -> int:
    """Bytes sent by each rank for one optimiser step, all its micro-batches (arXiv 1910.02054, 7).

    With nothing frozen and one micro-batch that is 2, 2, 2 and 3 times the weights in stages 0 to
    3. Stages 2 and 3 reduce gradients after every micro-batch, and stage 3 gathers all weights,
    frozen or not, for every forward and backward pass.
    """
    trained = counts.trained * sharding.weight_bytes
    all_weights = counts.total * sharding.weight_bytes
    micro_batches = sharding.accumulation
    volume = {
        0: 2 * trained,  # all-reduce: reduce-scatter and all-gather of the gradients
        1: trained + trained,  # reduce the gradients, gather the weights that were changed
        2: micro_batches * trained + trained,
        3: micro_batches * (trained + 2 * all_weights),
    }[sharding.zero_stage]
    return volume * (sharding.ranks - 1) // sharding.ranks

"""The most that the optimiser's step adds to what a rank holds before it (DeepSpeed 0.19.8)."""

from __future__ import annotations

from itertools import accumulate

from ml.memory import partitions
from ml.memory.counts import Counts
from ml.memory.states import FP32_BYTES, Sharding

_NORM_BYTES = 8  # the norm is taken of fp64 copies, one parameter after another


def stepping(counts: Counts, sharding: Sharding) -> int:
    """Bytes on top of weights, gradients and optimiser.

    Adam works on fp32 gradients. Without ZeRO all of them are made at once; with it those of one
    group of the optimiser at a time, in stage 3 those of one sub-group of at most about 1e9
    elements. Its kernel is a fused one, without temporaries.
    """
    if sharding.offload_optimizer != "none":
        return 0
    if sharding.zero_stage == 0:
        return _without_zero(counts, sharding)
    return max(_NORM_BYTES * _largest_norm(counts, sharding), _sharded(counts, sharding))


def _without_zero(counts: Counts, sharding: Sharding) -> int:
    if sharding.weight_bytes == FP32_BYTES:
        return 0  # the norm needs no copy of fp32
    # Norms are of fp32 copies; by the last group's, gradients of those before are there.
    groups = counts.groups
    before = accumulate((sum(group) for group in groups), initial=0)
    norms = [FP32_BYTES * (n + max(group)) for n, group in zip(before, groups, strict=False)]
    return max(FP32_BYTES * counts.trained, *norms)


def _largest_norm(counts: Counts, sharding: Sharding) -> int:
    if sharding.zero_stage == 3:
        return -(-counts.largest_trained // sharding.ranks)
    return partitions.largest_piece(counts.groups, sharding.ranks)


def _sharded(counts: Counts, sharding: Sharding) -> int:
    """A group's gradients are laid end to end, then made fp32, and the first copy dropped."""
    w, ranks = sharding.weight_bytes, sharding.ranks
    converting = FP32_BYTES + (w if w != FP32_BYTES else 0)
    cut = partitions.sub_groups if sharding.zero_stage == 3 else partitions.shares
    return converting * max(cut(counts.groups, ranks))

"""The most that the optimiser's step adds to what a rank holds before it (DeepSpeed 0.19.8)."""

from __future__ import annotations

from itertools import accumulate, pairwise

from ml.memory import partitions
from ml.memory.counts import Counts
from ml.memory.states import FP32_BYTES, Sharding

_NORM_BYTES = 8  # the norm is taken of fp64 copies, one parameter after another
_ADAM_BYTES = 8  # two fp32 temporaries, where Adam is no fused kernel


def stepping(counts: Counts, sharding: Sharding) -> int:
    """Bytes on top of weights, gradients and optimiser.

    Adam works on fp32 gradients. Without ZeRO all of them are made at once; with it those of one
    group of the optimiser at a time, in stage 3 those of one sub-group of at most about 1e9
    elements. Where it is no fused kernel, as on a CPU, it needs two temporaries of what it changes
    at a time: one parameter without ZeRO, the whole group with it.
    """
    if sharding.offload_optimizer != "none":
        return 0
    if sharding.zero_stage == 0:
        return _without_zero(counts, sharding)
    return max(_NORM_BYTES * _largest_norm(counts, sharding), _sharded(counts, sharding))


def _without_zero(counts: Counts, sharding: Sharding) -> int:
    one = 0
    if not sharding.gpu:
        # One of the temporaries is there until there is that of the next parameter.
        pairs = [pair for group in counts.groups for pair in pairwise((0, *group))]
        one = max(_ADAM_BYTES * n + FP32_BYTES * before for before, n in pairs)
    if sharding.weight_bytes == FP32_BYTES:
        return one  # the norm needs no copy of fp32
    # Norms are of fp32 copies; by the last group's, gradients of those before are there.
    groups = counts.groups
    before = accumulate((sum(group) for group in groups), initial=0)
    norms = [FP32_BYTES * (n + max(group)) for n, group in zip(before, groups, strict=False)]
    return max(FP32_BYTES * counts.trained + one, *norms)


def _largest_norm(counts: Counts, sharding: Sharding) -> int:
    if sharding.zero_stage == 3:
        return -(-counts.largest_trained // sharding.ranks)
    return partitions.largest_piece(counts.groups, sharding.ranks)


def _sharded(counts: Counts, sharding: Sharding) -> int:
    """A group's gradients are laid end to end, then made fp32, and the first copy dropped.

    In stages 1 and 2 the gradients lie in one buffer, which goes with the last group's; in stage 3
    it stays.
    """
    w, ranks = sharding.weight_bytes, sharding.ranks
    flat = w if w != FP32_BYTES else 0
    converting = FP32_BYTES + flat
    changing = FP32_BYTES + (0 if sharding.gpu else _ADAM_BYTES)
    if sharding.zero_stage == 3:
        return max(converting, changing) * max(partitions.sub_groups(counts.groups, ranks))
    *others, last = partitions.shares(counts.groups, ranks)
    gradients = partitions.gradients(counts.groups, ranks) * w
    most = max(converting, changing) * max(others, default=0)
    return max(most, converting * last, changing * last - gradients)

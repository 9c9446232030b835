"""Bytes of parameters, gradients and optimiser that a rank holds under ZeRO (arXiv 1910.02054).

These are what DeepSpeed 0.19.8 holds, checked against live storages by benchmarks/memory_states.py.
They differ from the paper's formulas in three places. Weights of fp32 have a second copy, the
master, in stages 1 to 3. Stage 1 lets go of the gradients of other ranks once they are reduced, so
that after the last micro-batch it holds what stage 2 does. And in stages 1 and 2 a parameter across
the border of two ranks has its whole gradient on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ml.memory import partitions
from ml.memory.counts import Counts

Precision = Literal["fp32", "bf16", "fp16", "bf16_autocast"]
Place = Literal["none", "cpu", "nvme"]

FP32_BYTES = 4
MOMENTS_BYTES = 8  # Adam's m and v, fp32
CHECKPOINT_BYTES = 12  # master, m and v


@dataclass(frozen=True)
class Buckets:
    """Elements that DeepSpeed's buffers hold; its configuration has the same keys."""

    reduce: int
    prefetch: int
    max_live: int
    max_reuse_distance: int
    persistence_threshold: int

    def zero_config(self) -> dict[str, int]:
        """As `zero_optimization` in DeepSpeed's configuration has them."""
        return {
            "reduce_bucket_size": self.reduce,
            "allgather_bucket_size": self.reduce,
            "stage3_prefetch_bucket_size": self.prefetch,
            "stage3_max_live_parameters": self.max_live,
            "stage3_max_reuse_distance": self.max_reuse_distance,
            "stage3_param_persistence_threshold": self.persistence_threshold,
        }


def buckets_of(counts: Counts) -> Buckets:
    """Buffers in proportion to the model, at most 50 million elements.

    DeepSpeed's defaults are for models of billions: a bucket of 5e8 elements is 1 GB whatever the
    model, and one below 1e9 parameters stays gathered from the first step on, so that ZeRO-3 would
    save nothing of its weights.
    """
    bucket = max(min(counts.total // 20, 50_000_000), 100_000)
    return Buckets(
        # An odd size is refused: NCCL's buffers are aligned to four bytes.
        reduce=bucket // 2 * 2,
        prefetch=bucket // 2 * 2,
        max_live=counts.largest_module + bucket,
        max_reuse_distance=bucket // 2,
        persistence_threshold=min(100_000, bucket // 100),
    )


@dataclass(frozen=True)
class Sharding:
    """How the model states are held: ZeRO stage, ranks, number formats, places.

    `gpu`: gradients are reduced beside the backward pass.
    """

    zero_stage: int
    ranks: int
    precision: Precision
    gpu: bool = False
    accumulation: int = 1
    offload_optimizer: Place = "none"
    offload_parameters: Place = "none"

    @property
    def weight_bytes(self) -> int:
        """Of one weight, and of its gradient: DeepSpeed accumulates in the weights' format."""
        return 2 if self.precision in ("bf16", "fp16") else 4


@dataclass(frozen=True)
class States:
    """Bytes of one rank; `device` is the GPU, or the process where there is none.

    `gradients` are those after backward and before the step. `buckets` are the buffers that they
    are reduced in, `gathered` what ZeRO-3 has whole at a time, or where stages 1 and 2 offload, the
    buffer for a gradient on its way. They are there in the backward pass only, but for the bucket
    of stage 3 and that buffer.
    """

    weights: int
    gradients: int
    masters: int
    moments: int
    buckets: int
    gathered: int
    host: int
    nvme: int

    @property
    def held(self) -> int:
        """What is held from step to step, and the gradients: after backward, before the step."""
        return self.weights + self.gradients + self.masters + self.moments


def states(counts: Counts, sharding: Sharding, buckets: Buckets) -> States:
    """The model states of one rank. Padding to equal shares is left out: some bytes a tensor."""
    stage, n = sharding.zero_stage, sharding.ranks
    w = sharding.weight_bytes
    trained, total = counts.trained, counts.total
    shard = -(-trained // n)  # elements of the optimiser's partition
    mine = shard if stage >= 1 else trained
    has_masters = stage >= 1 or w == 2

    weights = -(-total // n) * w if stage == 3 else total * w
    whole = counts.whole_below(buckets.persistence_threshold) * w
    gradients = (partitions.gradients(counts.groups, n) if stage in (1, 2) else mine) * w
    masters = mine * FP32_BYTES if has_masters else 0
    moments = mine * MOMENTS_BYTES
    # Beside the backward pass one bucket is filled while the other is reduced.
    count = {0: 0, 3: 1}.get(stage, 2 if sharding.gpu else 1)
    gathered = min(buckets.max_live + buckets.prefetch, total) * w + whole if stage == 3 else 0
    host = nvme = 0

    if sharding.offload_optimizer != "none":
        # Masters and moments leave the device; so do gradients, as fp32 for the step and in the
        # weights' format while they accumulate. Stages 1 and 2 have a copy of the weights that
        # goes back, and a buffer for the largest parameter at either end.
        optimizer = masters + moments
        staging = shard * w
        if stage in (1, 2):
            staging += counts.largest_trained * w
            if stage == 2 and sharding.accumulation > 1:
                staging += gradients  # stage 1 accumulates on the device
            gathered += counts.largest_trained * w
        if sharding.offload_optimizer == "cpu":
            host += optimizer + shard * FP32_BYTES + staging
        else:
            nvme += optimizer + shard * FP32_BYTES
            # DeepSpeed reads four tensors of the largest parameter's partition at a time.
            host += 4 * -(-counts.largest_trained // n) * FP32_BYTES + staging
        gradients, masters, moments = 0, 0, 0
    if sharding.offload_parameters != "none":
        if sharding.offload_parameters == "cpu":
            host += weights
        else:
            nvme += weights
            host += 5 * 100_000_000 * w  # DeepSpeed's five swap buffers of 1e8 elements
        weights = 0
    return States(
        weights=weights,
        gradients=gradients,
        masters=masters,
        moments=moments,
        buckets=count * buckets.reduce * w,
        gathered=gathered,
        host=host,
        nvme=nvme,
    )

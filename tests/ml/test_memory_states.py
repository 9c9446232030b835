"""Bytes of weights, gradients and optimiser by formula: ZeRO, precisions, frozen parts, offload."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ml import recipe
from ml.memory import partitions
from ml.memory.communication import communication
from ml.memory.counts import Counts, Part, counts_of
from ml.memory.states import Precision, Sharding, States, buckets_of, states
from ml.memory.step import stepping
from ml.memory.subject import subject_of
from tests.ml.tiny_models import tiny_model

BILLION = 1_000_000_000


def many(trained: int, frozen: int = 0, pieces: int = 7500, groups: int = 1) -> Counts:
    """A model of equal parameters, small beside what a rank has; groups get the same of them."""
    size = trained // pieces
    group = (size,) * (pieces // groups)
    return Counts(
        parts=(Part("llm", trained, frozen, 0),),
        sizes=(size,) * pieces + (frozen,) * bool(frozen),
        groups=(group,) * groups,
        largest_module=size,
        buffers=0,
    )


def held(counts: Counts, zero_stage: int, ranks: int, precision: Precision = "bf16") -> States:
    return states(counts, Sharding(zero_stage, ranks, precision), buckets_of(counts))


MODEL = many(7_500_000_000)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32", "bf16_autocast"])
def test_adam_holds_16_bytes_a_parameter(precision: Precision) -> None:
    found = held(MODEL, 0, 1, precision)
    assert found.held == 16 * 7.5 * BILLION == 120 * BILLION
    w = 2 if precision in ("bf16", "fp16") else 4
    assert (found.weights, found.gradients) == (w * 7.5 * BILLION, w * 7.5 * BILLION)
    assert found.masters == (0 if w == 4 else 4 * 7.5 * BILLION)
    assert found.moments == 8 * 7.5 * BILLION


@pytest.mark.parametrize("ranks", [2, 4, 8, 64])
def test_zero_shares_among_ranks_as_published(ranks: int) -> None:
    """Figure 1 of arXiv 1910.02054: 120 GB without ZeRO, 31.4, 16.6 and 1.9 on 64 ranks."""
    p, n = 7.5 * BILLION, ranks
    for stage, of_paper in ((0, 16 * p), (2, 2 * p + 14 * p / n), (3, 16 * p / n)):
        assert held(MODEL, stage, n).held == pytest.approx(of_paper, rel=0.001)
    # Stage 1: gradients of other ranks are there until they are reduced, and gone before the step.
    found = held(MODEL, 1, n)
    others = 2 * p - found.gradients
    assert found.held + others == pytest.approx(4 * p + 12 * p / n, rel=0.001)


def test_zero_3_takes_30_gb_on_4_ranks_and_15_on_8() -> None:
    assert held(MODEL, 3, 4).held == 30 * BILLION
    assert held(MODEL, 3, 8).held == 15 * BILLION


def test_fp32_weights_have_a_second_copy_under_zero() -> None:
    for stage, ranks in ((1, 4), (2, 4), (3, 4)):
        found = held(MODEL, stage, ranks, "fp32")
        assert found.masters == 4 * 7.5 * BILLION / ranks


def test_a_parameter_across_a_border_has_its_whole_gradient_on_both_ranks() -> None:
    groups = ((60, 100, 40),)  # of two ranks each has 100
    assert partitions.gradients(groups, 2) == 160  # the first has 60 and 100
    assert partitions.gradients(groups, 1) == 200
    assert partitions.shares(groups, 2) == [100]
    assert partitions.largest_piece(groups, 2) == 100
    assert partitions.gradients(((10, 10), (3,)), 2) == 13  # all of the 3 on either rank


def test_frozen_parameters_count_as_weights_alone() -> None:
    counts = many(BILLION, frozen=3 * BILLION, pieces=1000)
    whole = held(counts, 0, 1)
    assert whole.weights == 8 * BILLION
    assert whole.gradients + whole.masters + whole.moments == 14 * BILLION
    assert held(counts, 3, 4).weights == 2 * BILLION


def test_counts_know_parts_and_groups_and_shared_parameters() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 8)
            self.llm = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 10, bias=False))
            self.llm[1].weight = self.llm[0].weight
            self.register_buffer("mask", torch.zeros(6, dtype=torch.int64))

    model = Two()
    model.encoder.requires_grad_(False)
    found = counts_of(model)
    assert found.parts == (Part("encoder", 0, 40, 0), Part("llm", 80, 0, 0))
    assert (found.trained, found.frozen, found.total) == (80, 40, 120)
    assert (found.groups, found.largest_trained) == (((80,),), 80)
    assert (found.largest_module, found.buffers) == (80, 48)
    assert found.whole_below(20) == 8  # the bias of the encoder


def test_lora_counts_adapters_as_trained_and_the_rest_as_frozen(
    tmp_path: Path,
) -> None:
    stage = recipe.Stage.model_validate(
        {
            "name": "s",
            "data": "vqa",
            "template": "plain",
            "steps": 1,
            "train": {"fusion": "frozen", "llm": "lora"},
            "lora": {"rank": 4, "targets": ("q_proj",)},
        }
    )
    described = recipe.Recipe(name="r", model=tiny_model(tmp_path, "llama"), stages=(stage,))
    counts = subject_of(described, stage).counts
    adapters = 4 * (32 * 4 + 4 * 32)  # a layer has A and B of rank 4 on 32 features
    assert counts.trained == adapters
    assert next(p for p in counts.parts if p.name == "llm").adapters == adapters
    found = states(counts, Sharding(2, 2, "bf16"), buckets_of(counts))
    assert found.weights == 2 * counts.total
    assert found.masters + found.moments == 12 * adapters // 2


@pytest.mark.parametrize("stage", range(4))
def test_ranks_send_once_twice_or_one_and_a_half_times(stage: int) -> None:
    """1, 1, 1 and 1.5 times what data parallelism sends, arXiv 1910.02054, 7."""
    sharding = Sharding(stage, 64, "bf16")
    base = 2 * 2 * 7.5 * BILLION * 63 / 64
    assert communication(MODEL, sharding) == pytest.approx(base * (1, 1, 1, 1.5)[stage])


def test_micro_batches_and_frozen_weights_are_sent_again_where_they_are() -> None:
    counts = many(BILLION, frozen=3 * BILLION, pieces=1000)
    one, two = (
        [communication(counts, Sharding(stage, 4, "bf16", accumulation=n)) for stage in range(4)]
        for n in (1, 2)
    )
    assert two[:2] == one[:2]  # gradients are summed before they are sent
    assert two[2] == one[2] * 1.5
    assert two[3] == one[3] * 2
    assert one[3] == (2 + 2 * 8) * BILLION * 3 // 4  # frozen weights are gathered twice
    assert communication(counts, Sharding(3, 1, "bf16")) == 0


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_offload_moves_gradients_and_optimiser_to_the_host(stage: int) -> None:
    sharding = Sharding(stage, 4, "bf16", gpu=True, offload_optimizer="cpu")
    found = states(MODEL, sharding, buckets_of(MODEL))
    assert (found.gradients, found.masters, found.moments) == (0, 0, 0)
    # Masters, moments, fp32 gradients, and in 16 bits what comes and goes.
    assert found.host == pytest.approx((12 + 4 + 2) * 7.5 * BILLION / 4, rel=0.001)
    assert stepping(MODEL, sharding) == 0


def test_offloaded_parameters_are_on_the_host_or_on_disk() -> None:
    def offloaded(optimizer: str, parameters: str) -> States:
        places = {"offload_optimizer": optimizer, "offload_parameters": parameters}
        sharding = Sharding(3, 4, "bf16", gpu=True, **places)  # type: ignore[arg-type]
        return states(MODEL, sharding, buckets_of(MODEL))

    host, disk = offloaded("cpu", "cpu"), offloaded("nvme", "nvme")
    assert host.weights == disk.weights == 0
    assert host.nvme == 0
    assert host.host == pytest.approx(20 * 7.5 * BILLION / 4, rel=0.001)
    assert disk.nvme == pytest.approx(18 * 7.5 * BILLION / 4, rel=0.001)
    assert disk.host < 0.2 * host.host
    assert offloaded("none", "cpu").moments == 8 * 7.5 * BILLION / 4


def test_buckets_are_in_proportion_to_the_model() -> None:
    small, large = buckets_of(many(1_000_000, pieces=100)), buckets_of(MODEL)
    assert (small.reduce, large.reduce) == (100_000, 50_000_000)
    assert large.zero_config()["reduce_bucket_size"] == 50_000_000
    assert held(MODEL, 0, 4).buckets == 0
    assert held(MODEL, 2, 4).buckets == 100_000_000
    on_gpu = states(MODEL, Sharding(2, 4, "bf16", gpu=True), large)
    assert on_gpu.buckets == 200_000_000  # one is filled while the other is reduced


@pytest.mark.parametrize(
    ("stage", "groups", "bytes_a_parameter"),
    [
        (0, 1, 4),  # all fp32 gradients
        (0, 2, 4),
        (1, 1, 6 / 4),  # the most is when gradients of the share become fp32
        (2, 1, 6 / 4),
        (2, 2, 6 / 8),  # one group at a time
        (3, 1, 6 / 4),
        (3, 2, 6 / 8),
    ],
)
def test_the_step_adds_gradients_of_fp32(stage: int, groups: int, bytes_a_parameter: float) -> None:
    counts = many(BILLION, pieces=1000, groups=groups)
    found = stepping(counts, Sharding(stage, 4, "bf16"))
    assert found == pytest.approx(bytes_a_parameter * BILLION, rel=0.02)


def test_zero_3_steps_a_sub_group_at_a_time() -> None:
    """Of 7.5e9 parameters on two ranks each has 3.75e9, stepped 1e9 at a time."""
    assert partitions.sub_groups(MODEL.groups, 2) == [BILLION] * 3 + [BILLION * 3 // 4]
    assert stepping(MODEL, Sharding(3, 2, "bf16", gpu=True)) == 6 * BILLION
    assert stepping(MODEL, Sharding(2, 2, "bf16", gpu=True)) == 6 * 3.75 * BILLION


def test_a_huge_parameter_makes_the_norm_the_most() -> None:
    """DeepSpeed takes the norm of an fp64 copy of each parameter's gradient."""
    counts = Counts((Part("llm", 1100, 0, 0),), (1000, 100), ((1000, 100),), 1000, 0)
    sharding = Sharding(3, 1, "bf16", gpu=True)
    assert stepping(counts, sharding) == 8 * 1000


def test_a_model_of_another_size_keeps_its_shape() -> None:
    scaled = many(1_000_000, pieces=100).of_size(2_000_001)
    assert scaled.trained == 2_000_001
    assert sum(map(sum, scaled.groups)) == 2_000_000

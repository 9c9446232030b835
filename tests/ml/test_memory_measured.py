"""The planner beside live storages of real processes, and beside torch.cuda where there is a GPU.

benchmarks/memory_states.py has all that docs/training-memory.md says of it; here is a part.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from benchmarks.memory_states import GPU_CASES, Case, measure, planned

IN_16_BITS = [Case(zero_stage) for zero_stage in range(4)]


def compare(cases: Sequence[Case], ranks: int) -> None:
    """States, and both peaks, within 10 % of the rank that has most; nothing overlooked."""
    for case, measured in zip(cases, measure(cases, ranks), strict=True):
        for name, said in planned(case, ranks).items():
            most = max(getattr(rank, name) for rank in measured)
            assert said == pytest.approx(most, rel=0.1), (case, name)
        if not case.gpu:
            assert all(rank.overlooked < 0.01 * rank.held for rank in measured), case


@pytest.mark.slow
def test_two_processes_hold_what_is_planned() -> None:
    compare(IN_16_BITS, ranks=2)


@pytest.mark.faults
def test_four_processes_hold_what_is_planned() -> None:
    compare(IN_16_BITS, ranks=4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_has_the_peaks_that_are_planned() -> None:
    compare(GPU_CASES, ranks=min(torch.cuda.device_count(), 2))

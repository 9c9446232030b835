"""Which set-up fits and gives up least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ml.memory.footprint import Footprint, Setup, StagePlan


def cheapest(stage: StagePlan) -> Footprint | None:
    """The first set-up that fits, in the order of what it costs; None where none does."""
    # To look closer takes seconds with a large model.
    worth = (stage.footprint(s) for s in by_cost(stage) if not stage.is_too_large(s))
    return next((f for f in worth if stage.fits(f)), None)


def largest_micro_batch(stage: StagePlan, setup: Setup) -> int | None:
    """The most examples at a time that fit in a set-up; None: not even one."""
    for size in stage.micro_batches:
        if stage.fits(stage.footprint(replace(setup, micro_batch=size))):
            return size
    return None


def by_cost(stage: StagePlan) -> Iterator[Setup]:
    """Set-ups, those first that give up least.

    Sharding optimiser and gradients costs no more communication, checkpointing a third more
    computation, ZeRO-3 half more communication, smaller micro-batches some speed, offload the bus
    at each step. LoRA comes last, for it learns something else.
    """
    micro = stage.given.micro_batch
    smaller = [size for size in stage.micro_batches if size < micro]
    for on in (False, True):
        yield from (Setup(zero, micro, on) for zero in (0, 1, 2))
    yield from (Setup(3, micro, on) for on in (False, True))
    for size in smaller:
        yield from (Setup(zero, size, True) for zero in (2, 3))
    sizes = [micro, *smaller[-1:]]
    for size in sizes:
        yield Setup(2, size, True, "cpu")
        yield Setup(3, size, True, "cpu")
        yield Setup(3, size, True, "cpu", "cpu")
    if stage.can_lora:
        for size in sizes:
            yield from (Setup(zero, size, on, lora=True) for zero in (2, 3) for on in (False, True))


def compared(stage: StagePlan) -> list[Footprint]:
    """The set-ups that a table shows: each ZeRO stage, offload, LoRA; each without gradient
    checkpointing, then with it."""
    micro = stage.given.micro_batch
    setups = [Setup(zero, micro, False) for zero in range(4)]
    setups += [
        Setup(2, micro, False, "cpu"),
        Setup(3, micro, False, "cpu"),
        Setup(3, micro, False, "cpu", "cpu"),
    ]
    if stage.can_lora:
        setups += [Setup(zero, micro, False, lora=True) for zero in (0, 2, 3)]
    both = [replace(setup, checkpointing=on) for setup in setups for on in (False, True)]
    return [stage.footprint(setup) for setup in both]

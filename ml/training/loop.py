"""The steps of one stage, the same on every rank."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ml.batch import Batch
from ml.feed import Step
from ml.recipe import Stage
from ml.training.engine import (
    backward,
    learning_rate,
    learning_rate_factor,
    set_learning_rates,
    take_step,
)
from ml.training.metrics import StepRow, finite, peak_bytes


@dataclass
class Position:
    """Where a stage stands: steps done, examples consumed, steps without use in a row."""

    step: int = 0
    examples: int = 0
    futile: int = 0


class NotFinite(RuntimeError):
    """Too many steps in a row had a loss or a gradient that was not finite."""


def train(
    engine: Any,
    feed: Iterable[Step],
    stage: Stage,
    *,
    steps: int,
    until: int,
    position: Position,
    attempt: int,
    record: Callable[[StepRow], None],
    save: Callable[[Position], None],
    validate: Callable[[], float] | None,
    told_to_stop: Callable[[], bool] = lambda: False,
    peak: float | None = None,
) -> bool:
    """Take a stage's steps from `position` on to step `until`, of `steps` in all; False if stopped.

    It stops where one rank or several were told to, and saves nothing then. `position` follows the
    steps. `record` gets a row for each. `save` is called every `checkpoint_every` steps and at the
    last; `validate`, if given, every `validate_every` steps and at the last. `peak` is the FLOP/s
    of a rank's device, where known. Raises NotFinite.
    """
    flops_a_token: float | None = None
    engine.train()
    if position.step >= until:
        return True
    for step in feed:
        begun = time.perf_counter() - step.wait_seconds
        label_tokens, tokens, padded, stops = _summed(
            engine,
            sum(batch.label_tokens for batch in step.batches),
            sum(batch.tokens for batch in step.batches),
            sum(batch.input_ids.numel() for batch in step.batches),
            told_to_stop(),
        )
        if stops:
            return False
        set_learning_rates(engine, learning_rate_factor(stage, step.number, steps))
        loss = torch.zeros((), device=engine.device)
        for i, batch in enumerate(step.batches):
            divisor, is_last = max(1, int(label_tokens)), i + 1 == len(step.batches)
            if peak is not None and flops_a_token is None and len(batch.example_ids):
                summed, flops_a_token = _counted(engine, batch, divisor, is_last)
            else:
                summed = _learn(engine, batch, divisor, is_last)
            loss += summed
        stepped = take_step(engine)
        losses, waits, peaks = _gathered(engine, float(loss), step.wait_seconds, peak_bytes())
        mean = sum(losses) / max(1, int(label_tokens))
        can_lower_scale = math.isfinite(mean) and stepped.loss_scale > 1
        futile = stepped.skipped and not can_lower_scale
        position.step, position.examples = step.number, step.examples_after
        position.futile = position.futile + 1 if futile else 0
        seconds = time.perf_counter() - begun
        mfu = None
        if peak is not None and flops_a_token is not None:
            mfu = flops_a_token * padded / seconds / (peak * dist.get_world_size())
        ends = step.number == until
        validation = None
        if validate and (ends or _is_due(step.number, stage.validate_every)):
            validation = finite(validate())
        row = StepRow(
            stage=stage.name,
            step=step.number,
            attempt=attempt,
            loss=finite(mean),
            validation_loss=validation,
            learning_rate=learning_rate(engine, "fusion"),
            gradient_norm=stepped.norm,
            loss_scale=stepped.loss_scale,
            skipped=stepped.skipped,
            examples=step.examples_after,
            tokens=int(tokens),
            seconds=seconds,
            wait_seconds=max(waits),
            checkpoint_seconds=0.0,
            mfu=mfu,
            peak_bytes=int(max(peaks)),
        )
        record(row)
        if position.futile >= stage.most_skipped:
            raise NotFinite(
                f"stage {stage.name}: loss or gradient was not finite in {position.futile} steps "
                f"in a row, up to step {step.number}, and the weights are as before them"
            )
        if ends or _is_due(step.number, stage.checkpoint_every):
            # After the row: whoever goes on from this checkpoint finds the step in the metrics.
            started = time.perf_counter()
            save(position)
            took = time.perf_counter() - started
            record(replace(row, seconds=row.seconds + took, checkpoint_seconds=took))
        if ends:
            break
    return True


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _learn(engine: Any, batch: Batch, label_tokens: int, is_last: bool) -> Tensor:
    """Forward and backward of a micro-batch; its summed loss."""
    summed: Tensor = engine(batch.to(engine.device))
    backward(engine, summed, label_tokens=label_tokens, is_last=is_last)
    return summed.detach()


def _counted(engine: Any, batch: Batch, label_tokens: int, is_last: bool) -> tuple[Tensor, float]:
    """The same, and FLOPs a text token, padding included, of what the model needs.

    What gradient checkpointing computes again is left out, as MFU has it (arXiv 2204.02311).
    """
    with FlopCounterMode(display=False) as counter:
        summed: Tensor = engine(batch.to(engine.device))
        with _Again(counter) as again:
            backward(engine, summed, label_tokens=label_tokens, is_last=is_last)
    return summed.detach(), (counter.get_total_flops() - again.flops) / batch.input_ids.numel()


class _Again(TorchDispatchMode):
    """Around a backward pass: `flops` are those of what it computes a second time.

    Of all that it computes, that alone is recorded for gradients in its turn. Frozen parts that
    need none are not computed again, nor is what follows the last value that is needed.
    """

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.flops = 0
        self._counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._counter.get_total_flops()
        made = func(*args, **(kwargs or {}))
        if torch.is_grad_enabled():
            self.flops += self._counter.get_total_flops() - before
        return made


@torch.no_grad()
def mean_loss(engine: Any, feed: Iterable[Step]) -> float:
    """Mean loss over the label tokens of all that a feed has, on all ranks; without dropout."""
    engine.eval()
    loss, tokens = 0.0, 0
    for step in feed:
        for batch in step.batches:
            loss += float(engine(batch.to(engine.device)))
            tokens += batch.label_tokens
    engine.train()
    loss, label_tokens = _summed(engine, loss, tokens)
    return loss / max(1, label_tokens)


def _summed(engine: Any, *numbers: float) -> list[float]:
    """Each number summed over the ranks."""
    mine = torch.tensor(numbers, dtype=torch.float64, device=engine.device)
    dist.all_reduce(mine)
    return mine.tolist()


def _gathered(engine: Any, *numbers: float) -> list[list[float]]:
    """For each number, what the ranks have."""
    mine = torch.tensor(numbers, dtype=torch.float64, device=engine.device)
    all_of_them = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(all_of_them, mine)
    return torch.stack(all_of_them, dim=1).tolist()

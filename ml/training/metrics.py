"""What a step is measured by: a row for ml.metrics, a line for people, TensorBoard's files."""

from __future__ import annotations

import math
import re
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator

from ml.training.runs import RunFolder

_SHOWN_EVERY_S = 5.0
_RECENT_STEPS = 50
_TERA = 1e12
_PEAKS = {
    # Dense 16-bit FLOP/s by NVIDIA's data sheets; the first name that is part of the device's.
    "H200": 989 * _TERA,
    "H100 PCIe": 756 * _TERA,
    "H100 NVL": 835 * _TERA,
    "H100": 989 * _TERA,
    "A100": 312 * _TERA,
    "A40": 149.7 * _TERA,
    "A30": 165 * _TERA,
    "A10": 125 * _TERA,
    "L40S": 362 * _TERA,
    "L40": 181 * _TERA,
    "L4": 121 * _TERA,
    "V100": 125 * _TERA,
    "T4": 65 * _TERA,
}


def _print(text: str) -> None:
    print(text, flush=True)


@dataclass(frozen=True)
class StepRow:
    """A row of ml.metrics but for the run; numbers that are not finite are None."""

    stage: str
    step: int
    attempt: int
    loss: float | None
    validation_loss: float | None
    learning_rate: float | None
    gradient_norm: float | None
    loss_scale: float
    skipped: bool
    examples: int
    tokens: int
    seconds: float
    wait_seconds: float
    checkpoint_seconds: float
    mfu: float | None
    peak_bytes: int


def finite(number: float) -> float | None:
    """The number, or None: JSON has no NaN."""
    return number if math.isfinite(number) else None


def peak_flops(precision: str) -> float | None:
    """FLOP/s that this rank's device can do at most in 16 bits; None: not known, or it is fp32."""
    if not torch.cuda.is_available() or precision == "fp32":
        return None
    name = torch.cuda.get_device_name()
    return peak_of(name)


def peak_of(device: str) -> float | None:
    """Of a device by its name, in whole words: an RTX A4000 is no A40."""
    found = (peak for part, peak in _PEAKS.items() if re.search(rf"\b{part}\b", device))
    return next(found, None)


def peak_bytes() -> int:
    """The largest memory of this rank so far: on the GPU, else of the process."""
    if torch.cuda.is_available():
        return int(get_accelerator().max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Reporter:
    """Takes the steps of rank 0 to the run's folder, to the screen, and to TensorBoard."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        tensorboard: bool = False,
        show: Callable[[str], None] = _print,
        every_s: float = _SHOWN_EVERY_S,
    ) -> None:
        self._folder, self._show, self._every_s = folder, show, every_s
        folder.mend_metrics()
        self._recent: deque[StepRow] = deque(maxlen=_RECENT_STEPS)
        self._shown = -math.inf
        self._skipped = 0
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder.tensorboard))

    def step(self, row: StepRow, *, steps: int) -> None:
        """Report a step; again, with more in it, replaces it. The stage has so many `steps`."""
        self._folder.append_metrics({**asdict(row), "at": datetime.now(UTC).isoformat()})
        self._on_board(lambda board: _write(board, row))
        if self._recent and _place(self._recent[-1]) == _place(row):
            self._recent[-1] = row
            return
        self._skipped += row.skipped
        self._recent.append(row)
        now = time.monotonic()
        if now - self._shown >= self._every_s or row.step == steps:
            self._shown = now
            self._show(progress(list(self._recent), steps, self._skipped))

    def say(self, text: str) -> None:
        self._show(text)

    def close(self) -> None:
        self._on_board(lambda board: board.close())

    def _on_board(self, act: Callable[[Any], None]) -> None:
        """Do something with TensorBoard's writer, which a full disk ends, but not the run."""
        if self._board is None:
            return
        try:
            act(self._board)
        except OSError as e:
            self._board = None
            self.say(f"TensorBoard gets no more of this run: {e}")


def _write(board: Any, row: StepRow) -> None:
    names = ("loss", "validation_loss", "learning_rate", "gradient_norm", "loss_scale", "mfu")
    for name in names:
        if (value := getattr(row, name)) is not None:
            board.add_scalar(f"{row.stage}/{name}", value, row.step)
    board.add_scalar(f"{row.stage}/tokens_per_second", row.tokens / row.seconds, row.step)


def progress(recent: list[StepRow], steps: int, skipped: int = 0) -> str:
    """One line of where a stage stands, by its last row and the mean of the recent ones of it."""
    last = recent[-1]
    mine = [row for row in recent if row.stage == last.stage]
    seconds = sum(row.seconds for row in mine)
    wait = sum(row.wait_seconds for row in mine) / seconds
    parts = [
        f"{last.stage}: step {last.step} of {steps}",
        f"loss {last.loss:.4f}" if last.loss is not None else "loss not finite",
        f"{sum(row.tokens for row in mine) / seconds:,.0f} tokens/s",
        f"{last.peak_bytes / 1e9:.2f} GB",
        f"{100 * wait:.0f} % waiting for data",
        f"{duration((steps - last.step) * seconds / len(mine))} left",
    ]
    if last.validation_loss is not None:
        parts.insert(2, f"validation loss {last.validation_loss:.4f}")
    if last.mfu is not None:
        parts.insert(-3, f"MFU {100 * last.mfu:.1f} %")
    if skipped:
        parts.append(f"{skipped} steps skipped")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """As people say it: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _place(row: StepRow) -> tuple[str, int]:
    return row.stage, row.step

"""Whether a recipe, or a model of a given size, fits into memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from ml.memory.footprint import Devices, Footprint, Setup, StagePlan
from ml.memory.report import by_ranks, table
from ml.memory.search import cheapest, compared, largest_micro_batch
from ml.memory.subject import bloom, subject_of
from ml.recipe import Recipe, Stage

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Plan:
    """What each stage takes on the same devices."""

    name: str
    stages: tuple[StagePlan, ...]

    @property
    def fits(self) -> bool:
        """Whether every stage fits as it is given."""
        return all(stage.fits(stage.footprint(stage.given)) for stage in self.stages)

    @property
    def nearest(self) -> str:
        """For each stage that does not fit as given, what it needs and the nearest set-up that
        fits; a line each."""
        return "\n".join(
            _refusal(stage) for stage in self.stages if not stage.fits(stage.footprint(stage.given))
        )

    def table(self) -> str:
        """All set-ups of each stage, for people; GB are 10^9 bytes."""
        return "\n\n".join(table(stage) for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """The same for programs, in bytes."""
        stages = [_fields(stage) for stage in self.stages]
        return {"name": self.name, "fits": self.fits, "stages": stages}


def plan_of(
    recipe: Recipe,
    *,
    processes: int,
    device_bytes: int,
    cpu: bool = False,
    host_bytes: int | None = None,
) -> Plan:
    """What a recipe takes on `processes` ranks with a device of `device_bytes` each.

    `cpu`: ranks have no GPU, and the bytes are their share of the host's memory; `host_bytes` is
    that share beside a GPU. Raises UsageError where a part of the model is not there.
    """
    devices = Devices(processes, device_bytes, cpu, host_bytes)
    return Plan(recipe.name, tuple(_planned(recipe, stage, devices) for stage in recipe.stages))


def plan_of_size(
    parameters: int,
    *,
    gpus: int,
    device_bytes: int,
    cpu: bool = False,
    host_bytes: int | None = None,
    micro_batch: int = 1,
    tokens: int = 2048,
) -> Plan:
    """What a language model of this many parameters takes, all of them trained by Adam in bf16.

    Activations are those of a Bloom of about that size.
    """
    stage = StagePlan(
        f"{parameters / 1e9:.4g} B parameters",
        lambda lora: bloom(parameters, tokens=tokens, precision="bf16"),
        given=Setup(3, micro_batch, False),
        precision="bf16",
        devices=Devices(gpus, device_bytes, cpu, host_bytes),
        rank_batch=micro_batch,
        micro_batches=[2**n for n in range(10)],
        loader=2 * micro_batch * _text_bytes(tokens),  # the batch at work, and the next
        can_lora=False,
    )
    return Plan(stage.name, (stage,))


def device_memory(processes: int = 1, *, cpu: bool = False, cgroup: Path = _CGROUP) -> int:
    """Bytes that each of `processes` ranks on this machine has.

    Those of its GPU; or, with `cpu` and where there is none, its share of what the machine, or the
    container, has available.
    """
    if torch.cuda.is_available() and not cpu:
        return int(torch.cuda.get_device_properties(0).total_memory)
    available = psutil.virtual_memory().available
    try:  # version 2
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        told = (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        limit = "max"
    if limit != "max":
        # What files take in the cache is given back when it is needed.
        of_files = ("inactive_file", "active_file")
        stat = dict(line.split(maxsplit=1) for line in told)
        used -= sum(int(stat.get(name, 0)) for name in of_files)
        available = min(available, int(limit) - used)
    return max(available, 0) // processes


def _planned(recipe: Recipe, stage: Stage, devices: Devices) -> StagePlan:
    from ml.feed.feed import STEPS_HELD
    from ml.feed.order import WINDOW_BYTES, accumulation

    lora = stage.model_copy(update={"train": stage.train.model_copy(update={"llm": "lora"})})
    rank_batch = -(-stage.global_batch // devices.ranks)
    turns = accumulation(stage.global_batch, stage.micro_batch, devices.ranks)
    pixels = 3 * recipe.model.encoder.image_px**2
    return StagePlan(
        stage.name,
        lambda with_lora: subject_of(recipe, lora if with_lora else stage),
        given=Setup(
            stage.zero_stage,
            -(-rank_batch // turns),  # of a micro_batch that a rank's share does not fill
            stage.gradient_checkpointing,
            stage.offload_optimizer,
            stage.offload_parameters,
        ),
        precision=stage.precision,
        devices=devices,
        rank_batch=rank_batch,
        micro_batches=[n for n in range(1, rank_batch + 1) if stage.global_batch % n == 0],
        loader=WINDOW_BYTES + STEPS_HELD * rank_batch * (pixels + _text_bytes(stage.max_tokens)),
        can_lora=stage.train.llm == "full",
        kept=stage.keep_frozen_bytes,
    )


def _text_bytes(tokens: int) -> int:
    return tokens * (8 + 8 + 1)  # ids, labels, mask


def _refusal(stage: StagePlan) -> str:
    given, found = stage.footprint(stage.given), cheapest(stage)
    nearest = (
        f"{found.setup} fits with {stage.needed(found) / 1e9:.2f} GB"
        if found
        else f"no set-up fits on {stage.devices.ranks} of them"
    )
    needed = f"{stage.needed(given) / 1e9:.2f} GB of {stage.devices.room / 1e9:.2f} GB"
    if not stage.host_fits(given.host):
        there = (stage.devices.host_bytes or 0) / 1e9
        needed += f", and of the host {given.host / 1e9:.2f} GB of {there:.2f} GB,"
    return f"{stage.name} needs {needed} with {stage.given}; {nearest}"


def _fields(stage: StagePlan) -> dict[str, Any]:
    def fields(footprint: Footprint) -> dict[str, Any]:
        return {
            **asdict(footprint),
            "peak": footprint.peak,
            "needed": stage.needed(footprint),
            "fits": stage.fits(footprint),
        }

    counts, found = stage.counts(), cheapest(stage)
    return {
        "name": stage.name,
        "devices": asdict(stage.devices) | {"room": stage.devices.room},
        "precision": stage.precision,
        "parameters": counts.total,
        "trained_parameters": counts.trained,
        "parts": [asdict(part) for part in counts.parts],
        "given": fields(stage.footprint(stage.given)),
        "compared": [fields(footprint) for footprint in compared(stage)],
        "cheapest": fields(found) if found else None,
        "largest_micro_batch": largest_micro_batch(stage, found.setup) if found else None,
        "held_by_zero_stage_and_ranks": by_ranks(stage),
    }

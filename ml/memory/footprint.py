"""One stage of training in one set-up: what a rank needs, and whether it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ml.memory.activations import Activations
from ml.memory.communication import communication
from ml.memory.counts import Counts
from ml.memory.states import (
    CHECKPOINT_BYTES,
    Place,
    Precision,
    Sharding,
    States,
    buckets_of,
    states,
)
from ml.memory.step import stepping
from ml.memory.subject import Subject

GPU_SHARE = 0.9
"""Of a GPU's memory, what a plan may fill; the rest is for the CUDA context, NCCL and gaps."""
PROCESS_BYTES = 900_000_000
"""A training process before it has a model: 0.56 GB of its own, and as much of libraries (torch,
transformers, DeepSpeed, pyarrow), which the ranks of a machine share."""

ALL_REDUCE_ELEMENTS = 500_000_000
"""Without ZeRO, DeepSpeed copies so many gradients at a time to reduce them among ranks."""


@dataclass(frozen=True)
class Setup:
    """How a stage is trained, as far as memory goes. `lora`: adapters where the recipe has full."""

    zero_stage: int
    micro_batch: int
    checkpointing: bool
    offload_optimizer: Place = "none"
    offload_parameters: Place = "none"
    lora: bool = False

    def __str__(self) -> str:
        parts = [self.sharding]
        if self.checkpointing:
            parts.append("gradient checkpointing")
        return ", ".join([*parts, f"micro-batch {self.micro_batch}"])

    @property
    def sharding(self) -> str:
        """The stage, what is elsewhere, and LoRA."""
        parts = [f"ZeRO-{self.zero_stage}"]
        if self.offload_optimizer != "none":
            parts.append(f"optimiser on {self.offload_optimizer}")
        if self.offload_parameters != "none":
            parts.append(f"parameters on {self.offload_parameters}")
        return ", ".join([*parts, "LoRA"] if self.lora else parts)


@dataclass(frozen=True)
class Footprint:
    """Bytes of one rank in one set-up.

    `activations` and `logits` are the most at any time, `stepping` what is added inside the
    optimiser's step; `backward` and `step` are the peaks of the device in the forward and backward
    passes and in the optimiser's step, all counted. `loader` and
    `host` are memory of the host, `sent` what goes to other ranks for one optimiser step, and
    `disk` one checkpoint, all ranks together.
    """

    setup: Setup
    states: States
    activations: int
    logits: int
    stepping: int
    backward: int
    step: int
    loader: int
    host: int
    sent: int
    disk: int

    @property
    def peak(self) -> int:
        return max(self.backward, self.step)


@dataclass(frozen=True)
class Devices:
    """Where ranks run: how many, and the bytes that each may have.

    `cpu`: without a GPU, so that the bytes are a rank's share of the host's memory. `host_bytes`:
    that share beside a GPU, None where it is not known.
    """

    ranks: int
    bytes: int
    cpu: bool = False
    host_bytes: int | None = None

    @property
    def kind(self) -> str:
        """What they are called, in the plural."""
        return "processes" if self.cpu else "GPUs"

    @property
    def counted(self) -> str:
        """So many of what they are."""
        one = "process" if self.cpu else "GPU"
        return f"1 {one}" if self.ranks == 1 else f"{self.ranks} {self.kind}"

    @property
    def room(self) -> int:
        """Bytes that a plan may fill."""
        return self.bytes if self.cpu else round(GPU_SHARE * self.bytes)


class StagePlan:
    """One stage of a recipe, or a model of a given size, in any set-up.

    `subject` makes the model, or with True the same with LoRA where it is trained in full.
    `rank_batch` are the examples that a rank has of a global batch, `micro_batches` the numbers
    that may be worked on at a time, `loader` the bytes of examples, and `kept` those of outputs of
    frozen parts, that a process keeps on the host.
    """

    def __init__(
        self,
        name: str,
        subject: Callable[[bool], Subject],
        *,
        given: Setup,
        precision: Precision,
        devices: Devices,
        rank_batch: int,
        micro_batches: Sequence[int],
        loader: int,
        can_lora: bool,
        kept: int = 0,
    ) -> None:
        self.name, self.given, self.precision = name, given, precision
        self.devices, self.rank_batch, self.can_lora = devices, rank_batch, can_lora
        self.micro_batches = sorted(micro_batches, reverse=True)
        self._loader, self._kept = loader, kept
        self._make, self._subjects = subject, dict[bool, Subject]()
        self._footprints: dict[Setup, Footprint] = {}

    def counts(self, lora: bool = False) -> Counts:
        """The model's parameters."""
        return self._subject(lora).counts

    def states(self, setup: Setup, ranks: int | None = None) -> States:
        """The model states of a set-up, on other than its own number of ranks if given."""
        counts = self.counts(setup.lora)
        return states(counts, self._sharding(setup, ranks), buckets_of(counts))

    def footprint(self, setup: Setup) -> Footprint:
        """What a set-up needs."""
        if setup not in self._footprints:
            self._footprints[setup] = self._computed(setup)
        return self._footprints[setup]

    def needed(self, footprint: Footprint) -> int:
        """Bytes of the memory that is compared: the device's, with the host's where it is one."""
        return footprint.peak + (footprint.host if self.devices.cpu else 0)

    def fits(self, footprint: Footprint) -> bool:
        """Whether there is as much, of the host too as far as that is known."""
        return self.needed(footprint) <= self.devices.room and self.host_fits(footprint.host)

    def host_fits(self, host: int) -> bool:
        """Whether the host of a GPU has so many bytes for a rank; True where it is not known."""
        there = self.devices.host_bytes
        return self.devices.cpu or there is None or host <= there

    def is_too_large(self, setup: Setup) -> bool:
        """Whether the step or the host needs more, which is known without running a model."""
        host = self._host(setup)
        beside = host if self.devices.cpu else 0
        return self._step(setup) + beside > self.devices.room or not self.host_fits(host)

    def _computed(self, setup: Setup) -> Footprint:
        subject, sharding = self._subject(setup.lora), self._sharding(setup)
        counts, held = subject.counts, self.states(setup)
        passes = subject.activations(
            setup.micro_batch, setup.checkpointing, zero_3=setup.zero_stage == 3
        )
        working = _with_gradients(passes, held, sharding, counts)
        return Footprint(
            setup=setup,
            states=held,
            activations=passes.peak(),
            logits=passes.logits,
            stepping=stepping(counts, sharding),
            backward=self._always(setup) + held.buckets + held.gathered + working,
            step=self._step(setup),
            loader=self._loader,
            host=self._host(setup),
            sent=communication(counts, sharding),
            disk=counts.trained * CHECKPOINT_BYTES,
        )

    def _always(self, setup: Setup) -> int:
        held = self.states(setup)
        return held.weights + held.masters + held.moments + self.counts(setup.lora).buffers

    def _step(self, setup: Setup) -> int:
        held = self.states(setup)
        staying = held.buckets if setup.zero_stage == 3 else held.gathered
        more = stepping(self.counts(setup.lora), self._sharding(setup))
        return self._always(setup) + held.gradients + staying + more

    def _host(self, setup: Setup) -> int:
        """Bytes of the host.

        Checkpoints are written from a copy of what the rank adds to them. Where there is a GPU, the
        model is made on the host before it goes there.
        """
        counts = self.counts(setup.lora)
        copy = counts.trained * CHECKPOINT_BYTES // self.devices.ranks
        training = self._loader + self._kept + copy + self.states(setup).host
        start = 0 if self.devices.cpu else counts.total * self._sharding(setup).weight_bytes
        return PROCESS_BYTES + max(start, training)

    def _subject(self, lora: bool) -> Subject:
        if lora not in self._subjects:
            self._subjects[lora] = self._make(lora)
        return self._subjects[lora]

    def _sharding(self, setup: Setup, ranks: int | None = None) -> Sharding:
        return Sharding(
            setup.zero_stage,
            ranks or self.devices.ranks,
            self.precision,
            gpu=not self.devices.cpu,
            accumulation=-(-self.rank_batch // setup.micro_batch),
            offload_optimizer=setup.offload_optimizer,
            offload_parameters=setup.offload_parameters,
        )


def _with_gradients(passes: Activations, held: States, sharding: Sharding, counts: Counts) -> int:
    """The most of activations and gradients together, in the passes and as gradients are reduced.

    Here stage 1 on a CPU reduces all gradients after the backward pass; on a GPU it does so beside
    it, where those too large for a bucket stay until it ends. With accumulation all gradients are
    there from the second micro-batch on in stages 0 and 1, and in stage 2 what the rank keeps,
    twice. Stage 3 makes room for its share before the first.
    """
    whole, mine = counts.trained * sharding.weight_bytes, held.gradients
    again = sharding.accumulation > 1
    stage = sharding.zero_stage
    if stage == 0:
        # They are copied into one buffer to be reduced; one rank alone does not.
        elements = ALL_REDUCE_ELEMENTS if sharding.ranks > 1 else 0
        reduced = min(whole, elements * sharding.weight_bytes)
        most = passes.peak(before=whole) if again else passes.peak(share=1.0)
        return max(most, whole + reduced)
    if stage == 1 and (again or not sharding.gpu):
        most = passes.peak(before=whole) if again else passes.peak(share=1.0)
        return max(most, whole + mine)
    if stage == 3:
        return passes.peak(before=mine)
    staying = _too_large(counts) / counts.trained if stage == 1 else 0.0
    return passes.peak(before=mine if again else 0, share=staying, after=mine)


def _too_large(counts: Counts) -> int:
    """Elements of trained parameters that do not go into a bucket."""
    bucket = buckets_of(counts).reduce
    return sum(n for group in counts.groups for n in group if n > bucket)

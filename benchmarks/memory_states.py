"""What ZeRO really holds, beside what the planner says: live storages of real processes.

    python -m benchmarks.memory_states [--ranks 2 4] [--gpu | --offload]

Each set-up trains a small model on so many processes. After the backward pass of the second step
and before its optimiser step, every rank sums the storages of weights, gradients, masters and
moments, each storage once, and of all tensors that are alive, so that nothing is overlooked. The
peaks are of the bytes that live while the passes, and the optimiser's step, go on; with --gpu, of
one GPU a rank and a larger model, they are those of torch.cuda. With --offload, for which a C++
compiler is needed, all is counted that is there, as device and host are one memory on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.made_bloom import LAYERS, made_bloom, next_token_loss, weights_and_vectors
from ml.memory.activations import LiveBytes
from ml.memory.counts import counts_of
from ml.memory.footprint import Devices, Setup, StagePlan
from ml.memory.states import Precision, buckets_of
from ml.memory.subject import Subject, switch_checkpointing

ROOT = Path(__file__).resolve().parents[1]
MICRO_BATCH, TOKENS = 4, 64
FEW_TOKENS = 8  # of one example: gradients are more than activations
VOCABULARY, HIDDEN = 4096, 256
_LINEAR = nn.functional.linear


@dataclass(frozen=True)
class Case:
    """A set-up to be measured; `tuning`: full, half (every second layer is frozen) or lora."""

    zero_stage: int
    precision: Precision = "bf16"
    tuning: str = "full"
    accumulation: int = 1
    tokens: int = TOKENS
    gpu: bool = False
    offload: bool = False

    @property
    def hidden(self) -> int:
        """Enough that a GPU's workspaces are little beside the model."""
        return 1024 if self.gpu else HIDDEN

    @property
    def micro_batch(self) -> int:
        return MICRO_BATCH if self.tokens == TOKENS else 1


PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")
OFFLOAD_CASES = tuple(
    Case(stage, accumulation=n, offload=True) for n, stage in product((1, 2), (1, 2, 3))
)
GPU_CASES = tuple(Case(stage, gpu=True) for stage in range(4))
CASES = (
    *(Case(stage, precision) for precision, stage in product(PRECISIONS, range(4))),
    *(Case(stage, tuning=tuning) for tuning, stage in product(("half", "lora"), range(4))),
    *(Case(stage, accumulation=2) for stage in range(4)),
    *(Case(stage, accumulation=n, tokens=FEW_TOKENS) for n, stage in product((1, 2), range(4))),
    *(Case(stage, "fp16") for stage in range(4)),
    # Last, as DeepSpeed keeps autocast for the whole process.
    *(Case(stage, "bf16_autocast") for stage in range(4)),
)


@dataclass(frozen=True)
class Bytes:
    """Of one rank. `held` is weights, gradients, masters and moments, with offload all that is
    there; `overlooked` what lives beside them and the buckets."""

    weights: int
    gradients: int
    masters: int
    moments: int
    held: int
    buckets: int
    overlooked: int
    backward_peak: int
    step_peak: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--gpu", action="store_true")
    other.add_argument("--offload", action="store_true")
    args = parser.parse_args(argv)
    cases = GPU_CASES if args.gpu else OFFLOAD_CASES if args.offload else CASES
    print("MB a rank, measured and planned, and how far apart\n")
    print(
        "| ranks | ZeRO | weights | tuned | micro-batches | tokens | held | planned | | backward | "
        "planned | | step | planned | |"
    )
    print("| ---: | ---: | --- | --- | ---: | ---: |" + " ---: |" * 9)
    for ranks in args.ranks:
        for case, measured in zip(cases, measure(cases, ranks), strict=True):
            said = planned(case, ranks)
            worst = [max(getattr(m, name) for m in measured) for name in said]
            cells = (
                f"{real / 1e6:.2f} | {plan / 1e6:.2f} | {plan / real - 1:+.1%}"
                for real, plan in zip(worst, said.values(), strict=True)
            )
            print(
                f"| {ranks} | {case.zero_stage} | {case.precision} | {case.tuning} | "
                f"{case.accumulation} | {case.micro_batch * case.tokens} | {' | '.join(cells)} |",
                flush=True,
            )
    return 0


def planned(case: Case, ranks: int) -> dict[str, int]:
    """What the planner says of a case."""
    stage = StagePlan(
        "measured",
        lambda lora: _subject(case),
        given=Setup(case.zero_stage, case.micro_batch, False, "cpu" if case.offload else "none"),
        precision=case.precision,
        devices=Devices(ranks, 0, cpu=not case.gpu),
        rank_batch=case.micro_batch * case.accumulation,
        micro_batches=[case.micro_batch],
        loader=0,
        can_lora=False,
    )
    said = stage.footprint(stage.given)
    host = said.states.host
    held = said.step + host if case.offload else said.states.held
    return {"held": held, "backward_peak": said.backward + host, "step_peak": said.step + host}


def measure(cases: Sequence[Case], ranks: int) -> list[list[Bytes]]:
    """Every case in one start of `ranks` processes: for each, the bytes of each rank."""
    with tempfile.TemporaryDirectory(prefix="memory-states-") as folder:
        asked = Path(folder, "cases.json")
        asked.write_text(json.dumps([asdict(case) for case in cases]))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={ranks}", "-m", "benchmarks.memory_states_rank", folder]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        if not any(case.gpu for case in cases):
            environment["DS_ACCELERATOR"] = "cpu"
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the ranks failed:\n{done.stdout}\n{done.stderr}")
        by_rank = [json.loads(Path(folder, f"{r}.json").read_text()) for r in range(ranks)]
    return [[Bytes(**rank[i]) for rank in by_rank] for i in range(len(cases))]


def rank_program(folder: Path) -> None:
    """What each process does: every case, then its numbers to a file."""
    from ml.training.engine import join_ranks

    cases = [Case(**fields) for fields in json.loads((folder / "cases.json").read_text())]
    join_ranks()
    measured = [asdict(_measured(case)) for case in cases]
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(measured))


def _measured(case: Case) -> Bytes:
    import deepspeed

    before = _alive()  # of earlier cases, whose engines never quite go
    allocated_before = torch.cuda.memory_allocated() if case.gpu else 0
    model = _model(case, "cpu")
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": case.micro_batch,
        "gradient_accumulation_steps": case.accumulation,
        "gradient_clipping": 1.0,
        "zero_optimization": {
            "stage": case.zero_stage,
            "overlap_comm": case.gpu,
            **buckets_of(counts_of(model)).zero_config(),
        },
        "zero_allow_untested_optimizer": True,
    }
    if case.precision == "bf16_autocast":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    elif case.precision == "fp16":
        # A scale at which no step is left out.
        config["fp16"] = {"enabled": True, "initial_scale_power": 8}
    elif case.precision == "bf16":
        config["bf16"] = {"enabled": True}
    if case.offload:
        config["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    optimizer = _adam([{"params": group} for group in weights_and_vectors(model)], case)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    _passes(engine, case)
    engine.step()
    with LiveBytes() as live:
        for tensor in before:
            live.knows(tensor)
        for tensor in _alive():
            live.holds(tensor)
        peak = _Peak(live, allocated_before if case.gpu else None)
        _passes(engine, case)
        backward_peak = peak.taken()
        gc.collect()
        alive = live.live
        weights, masters = _weights(engine), _storages(_masters(engine))
        moments = _storages(_tensors(engine.basic_optimizer.state))
        gradients, buckets = _gradients(engine), _storages(_buckets(engine))
        masters = {k: v for k, v in masters.items() if k not in weights}
        held = weights | gradients | masters | moments
        everything = _storages(_alive()) | held | buckets
        peak = _Peak(live, allocated_before if case.gpu else None)
        engine.step()
        step_peak = peak.taken()
    engine.destroy()
    nn.functional.linear = _LINEAR  # stage 3 has put another in its place
    del engine, model, optimizer
    gc.collect()
    return Bytes(
        weights=sum(weights.values()),
        gradients=sum(gradients.values()),
        masters=sum(masters.values()),
        moments=sum(moments.values()),
        held=alive if case.offload else sum(held.values()),
        buckets=sum(buckets.values()),
        overlooked=sum(everything.values()) - sum((held | buckets | _storages(before)).values()),
        backward_peak=backward_peak,
        step_peak=step_peak,
    )


def _adam(groups: list[dict[str, Any]], case: Case) -> torch.optim.Optimizer:
    if not case.offload:
        return torch.optim.AdamW(groups, fused=True)
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    made: torch.optim.Optimizer = DeepSpeedCPUAdam(groups)
    return made


class _Peak:
    """The most bytes at any time since it was made: of torch.cuda beyond `allocated`, if given."""

    def __init__(self, live: LiveBytes, allocated: int | None) -> None:
        self._live, self._allocated = live, allocated
        live.peak = live.live
        if allocated is not None:
            torch.cuda.reset_peak_memory_stats()

    def taken(self) -> int:
        if self._allocated is None:
            return self._live.peak
        return torch.cuda.max_memory_allocated() - self._allocated


def _passes(engine: Any, case: Case) -> None:
    """Forward and backward of one optimiser step."""
    for micro in range(case.accumulation):
        engine.set_gradient_accumulation_boundary(micro == case.accumulation - 1)
        engine.backward(_loss(engine, case.micro_batch, case.tokens))


def _model(case: Case, device: str) -> nn.Module:
    """A Bloom of 7 million parameters; of 105 million for a GPU."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    with torch.device(device):
        model = made_bloom(VOCABULARY, case.hidden)
        if case.tuning == "half":
            for name, parameter in model.named_parameters():
                parameter.requires_grad = any(f".h.{i}." in name for i in range(0, LAYERS, 2))
        elif case.tuning == "lora":
            model.requires_grad_(False)
            adapters = LoraConfig(r=16, target_modules="all-linear")
            model = inject_adapter_in_model(adapters, model)
    return model.train()


def _loss(model: nn.Module, micro_batch: int, tokens: int) -> Tensor:
    device = next(model.parameters()).device
    ids = torch.ones(micro_batch, tokens, dtype=torch.int64, device=device)
    return next_token_loss(model, ids)


def _subject(case: Case) -> Subject:
    model = _model(case, "meta")
    return Subject(
        model,
        precision=case.precision,
        vocabulary=VOCABULARY,
        loss=lambda model, micro_batch: _loss(model, micro_batch, case.tokens),
        groups=weights_and_vectors(model),
        checkpointing=switch_checkpointing,
    )


def _alive() -> list[Tensor]:
    """Every tensor that Python knows, but for those without memory."""
    found = [o for o in gc.get_objects() if isinstance(o, Tensor)]
    found += [t.grad for t in found if t.is_leaf and t.grad is not None]
    return [t for t in found if t.device.type != "meta"]


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Bytes of each storage, once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return {storage._cdata: storage.nbytes() for storage in storages}


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (t for v in value.values() for t in _tensors(v))
    elif isinstance(value, list | tuple):
        yield from (t for v in value for t in _tensors(v))


def _weights(engine: Any) -> dict[int, int]:
    """Of the model as it computes; under ZeRO-3 this rank's part, and what stays whole."""
    parameters = list(engine.module.parameters())
    parts = [p.ds_tensor.data for p in parameters if hasattr(p, "ds_tensor")]
    return _storages([*(p.data for p in parameters), *parts])


def _masters(engine: Any) -> list[Tensor]:
    """What Adam changes; without ZeRO and in fp32 these are the weights."""
    return list(engine.basic_optimizer.state)


def _gradients(engine: Any) -> dict[int, int]:
    parameters = [*engine.module.parameters(), *_masters(engine)]
    found = [p.grad for p in parameters if p.grad is not None]
    return _storages([*found, *_tensors(getattr(engine.optimizer, "averaged_gradients", {}))])


def _buckets(engine: Any) -> Iterator[Tensor]:
    for bucket in getattr(engine.optimizer, "ipg_buckets", {}).values():
        if bucket.buffer is not None:
            yield from _tensors(bucket.buffer)


if __name__ == "__main__":
    raise SystemExit(main())

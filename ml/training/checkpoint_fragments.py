"""What of a DeepSpeed engine lies on this rank: masters, optimiser state, weights that stay.

All that checkpoints take from DeepSpeed's insides is here, for the minor version that setup.py
asks for. The public `deepspeed.utils.safe_get_local_*` are for ZeRO-3 alone, and the `_full_` ones
gather every parameter on every rank, and fail for all parameter groups but the first.

ZeRO cuts a group's parameters, laid end to end (stages 1 and 2) or each by itself (stage 3), into
one partition a rank, padded at the end. A **fragment** is what of one parameter lies in this
rank's partition: a range of its flattened elements. Stage 0 has no partitions: all is everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor, nn
from torch import distributed as dist

from pipelines.errors import UsageError


@dataclass(frozen=True)
class Fragment:
    """Elements [start, start + numel) of a flattened parameter, from `offset` on in a tensor."""

    name: str
    start: int
    numel: int
    offset: int


@dataclass(frozen=True)
class Master:
    """A tensor that the optimiser steps, its state, and the parameters' fragments in it.

    `state` is the optimiser's own dictionary: `exp_avg`, `exp_avg_sq` in the tensor's shape, and
    `step`; empty before the first step. `whole`: every rank holds the same, as in stage 0.
    """

    tensor: Tensor
    state: dict[str, Any]
    fragments: tuple[Fragment, ...]
    whole: bool

    def tensors(self) -> dict[str, Tensor]:
        """The master and the state tensors of its shape, by name."""
        averages = {
            key: value
            for key, value in self.state.items()
            if key != "step" and isinstance(value, Tensor) and value.shape == self.tensor.shape
        }
        return {"master": self.tensor, **averages}


def share(numel: int, rank: int, world: int) -> tuple[int, int]:
    """Start and length of a rank's part of `numel` elements: equal parts, the last ones shorter."""
    size = -(-numel // world)
    start = min(rank * size, numel)
    return start, min(size, numel - start)


def names_of(engine: Any) -> dict[int, str]:
    """Names of the model's parameters by id; one that is shared has the first of its names."""
    return {id(p): name for name, p in engine.module.named_parameters()}


def numel_of(parameter: nn.Parameter) -> int:
    """Elements of the whole parameter, wherever it is."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def shape_of(parameter: nn.Parameter) -> list[int]:
    """Shape of the whole parameter, wherever it is."""
    return list(getattr(parameter, "ds_shape", parameter.shape))


def trained_parameters(engine: Any) -> dict[str, nn.Parameter]:
    """The parameters that the optimiser steps, by name: the same on all ranks."""
    optimizer, names = engine.optimizer, names_of(engine)
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        groups = optimizer.bit16_groups
    elif isinstance(optimizer, BF16_Optimizer):
        groups = optimizer.bf16_groups
    elif isinstance(optimizer, torch.optim.Optimizer):
        groups = [group["params"] for group in optimizer.param_groups]
        groups = [[p for p in group if p.requires_grad] for group in groups]
    else:
        groups = optimizer.fp16_groups
    return {names[id(p)]: p for group in groups for p in group}


def masters(engine: Any) -> list[Master]:
    """What the optimiser of this rank steps. Raises UsageError for a set-up that is not known."""
    optimizer, names = engine.optimizer, names_of(engine)
    base = base_optimizer(engine)
    if type(optimizer) is DeepSpeedZeroOptimizer_Stage3:
        if optimizer.swap_optimizer:
            raise UsageError(
                "checkpoints cannot read optimiser states from NVMe; set offload_optimizer to cpu"
            )
        if optimizer.partial_offload < 1:
            raise UsageError("checkpoints need the offload ratio 1.0, DeepSpeed's default")
        flats = optimizer.fp32_partitioned_groups_flat
        cut = [_cut_by_parameter(optimizer, group, names) for group in optimizer.fp16_groups]
        whole = False
    elif type(optimizer) is DeepSpeedZeroOptimizer:
        if optimizer.round_robin_gradients:
            raise UsageError("checkpoints do not know round_robin_gradients; leave it out")
        flats = optimizer.single_partition_of_fp32_groups
        cut = [_cut_by_group(group, names) for group in optimizer.bit16_groups]
        whole = False
    elif type(optimizer) is BF16_Optimizer:
        flats = optimizer.fp32_groups_flat_partition
        cut = [_cut_by_group(group, names) for group in optimizer.bf16_groups]
        whole = False
    elif type(optimizer) is FP16_Optimizer:
        flats = optimizer.fp32_groups_flat
        cut = [_laid_end_to_end(group, names) for group in optimizer.fp16_groups]
        whole = True
    elif type(optimizer) is FP16_UnfusedOptimizer:
        lows = [p for group in optimizer.fp16_groups for p in group]
        flats = [p for group in optimizer.fp32_groups for p in group]
        cut = [_laid_end_to_end([p], names) for p in lows]
        whole = True
    elif isinstance(optimizer, torch.optim.Optimizer):
        flats = list(trained_parameters(engine).values())
        cut = [_laid_end_to_end([p], names) for p in flats]
        whole = True
    else:
        raise UsageError(f"checkpoints do not know the optimiser {type(optimizer).__name__}")
    return [
        Master(flat.detach(), base.state[flat], tuple(fragments), whole)
        for flat, fragments in zip(flats, cut, strict=True)
    ]


def base_optimizer(engine: Any) -> torch.optim.Optimizer:
    """The optimiser inside DeepSpeed's, if there is one round it."""
    base: torch.optim.Optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    return base


def _cut_by_parameter(optimizer: Any, group: list[Any], names: dict[int, str]) -> list[Fragment]:
    fragments, offset = [], 0
    for p in group:
        size = p.partition_numel()
        start = min(optimizer._get_param_partition_rank(p) * size, p.ds_numel)
        fragments.append(Fragment(names[id(p)], start, min(size, p.ds_numel - start), offset))
        offset += size
    return fragments


def _cut_by_group(group: list[Any], names: dict[int, str]) -> list[Fragment]:
    fragments = []
    for p in group:
        if p._hp_mapping is not None:  # else: all of it lies on other ranks
            inside = p._hp_mapping.lp_fragment_address
            offset = p._hp_mapping.hp_fragment_address.start
            fragments.append(Fragment(names[id(p)], inside.start, inside.numel, offset))
    return fragments


def _laid_end_to_end(group: list[Any], names: dict[int, str]) -> list[Fragment]:
    fragments, offset = [], 0
    for p in group:
        fragments.append(Fragment(names[id(p)], 0, p.numel(), offset))
        offset += p.numel()
    return fragments


@torch.no_grad()
def weights_from_masters(engine: Any) -> None:
    """Sets the weights that the model computes with, on every rank, to what the masters hold.

    The masters were written to by other means than a step. All ranks must call it.
    """
    optimizer = engine.optimizer
    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        # As in a step: small parameters, which stay gathered, are cut first and gathered after.
        optimizer._partition_all_parameters()
        for group in range(len(optimizer.fp16_groups)):
            optimizer._reassign_or_swap_out_partitioned_parameters(group)
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
    elif isinstance(optimizer, DeepSpeedZeroOptimizer | BF16_Optimizer):
        optimizer.update_lp_params()
    elif not isinstance(optimizer, torch.optim.Optimizer):  # 16 bits in stage 0
        trained = trained_parameters(engine)
        for master in masters(engine):
            for f in master.fragments:
                values = elements(master.tensor, f.offset, f.numel)
                trained[f.name].data.copy_(values.view(trained[f.name].shape))


def kept_fragments(
    engine: Any, names: set[str], rank: int, world: int
) -> Iterator[tuple[str, int, Tensor]]:
    """What this rank has of parameters that no optimiser steps: name, start, elements (1-D).

    In ZeRO-3 it is the partition; else the model is on every rank and each takes its share.
    """
    for name, p in engine.module.named_parameters():
        if name not in names:
            continue
        start, numel = share(numel_of(p), rank, world)
        if not hasattr(p, "ds_tensor"):
            yield name, start, elements(p, start, numel)
        elif p.ds_tensor.status.name != "AVAILABLE":
            raise UsageError(f"checkpoints cannot read {name} from NVMe")
        else:
            yield name, start, elements(p.ds_tensor, 0, numel)


def elements(tensor: Tensor, offset: int, numel: int) -> Tensor:
    """Elements [offset, offset + numel) of a flattened tensor, a view of it.

    DeepSpeed takes no parameters but contiguous ones.
    """
    return tensor.detach().view(-1).narrow(0, offset, numel)


def put(tensor: Tensor, offset: int, values: Tensor) -> None:
    """Writes `values` (1-D) over the elements from `offset` on of a flattened tensor."""
    tensor.detach().view(-1).narrow(0, offset, len(values)).copy_(values)


def fingerprints(engine: Any, names: set[str], rank: int, world: int) -> dict[str, int]:
    """A number for the values of each parameter, the same however the model is cut.

    It is the sum of the elements' bits, each times an odd number that its place gives, modulo 2^64.
    All ranks must call it; it reads each element once.
    """
    ordered = sorted(names)
    place = {name: i for i, name in enumerate(ordered)}
    sums = torch.zeros(len(ordered), dtype=torch.int64)
    for name, start, values in kept_fragments(engine, names, rank, world):
        bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.itemsize]
        for first in range(0, len(values), _CHUNK):
            part = values[first : first + _CHUNK].contiguous().view(bits).to(torch.int64)
            at = torch.arange(start + first, start + first + len(part), device=part.device)
            sums[place[name]] += (part * (at * _SPREAD | 1)).sum().cpu()
    sums = sums.to(engine.device)
    dist.all_reduce(sums)
    return dict(zip(ordered, sums.tolist(), strict=True))


_CHUNK = 1 << 22
_SPREAD = 0x5851F42D4C957F2D
"""Knuth's multiplier of MMIX's random numbers: neighbours get very different factors."""


_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def loss_scale_state(engine: Any) -> dict[str, float] | None:
    """Where a dynamic loss scale stands; None where there is none."""
    scaler = _dynamic_scaler(engine)
    return scaler and {k: getattr(scaler, k) for k in _SCALER if hasattr(scaler, k)}


def set_loss_scale_state(engine: Any, state: dict[str, float] | None) -> None:
    """Sets a dynamic loss scale; does nothing where either side has none."""
    scaler = _dynamic_scaler(engine)
    for key, value in (state or {}).items():
        if hasattr(scaler, key):
            setattr(scaler, key, value)


def _dynamic_scaler(engine: Any) -> Any:
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    if scaler is not None:
        return scaler if scaler.dynamic else None
    config = getattr(engine.optimizer, "loss_scale_config", None)
    return config if config is not None and config.dynamic_loss_scale else None


def set_step(engine: Any, master: Master, step: float) -> None:
    """Sets the count of steps that Adam corrects its averages with."""
    base = base_optimizer(engine)
    if isinstance(base, torch.optim.Adam):  # AdamW is one
        on_device = any(g.get("fused") or g.get("capturable") for g in base.param_groups)
        device = master.tensor.device if on_device else torch.device("cpu")
        master.state["step"] = torch.tensor(float(step), dtype=torch.float32, device=device)
    else:
        master.state["step"] = int(step)

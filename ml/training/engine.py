"""A model under DeepSpeed: its configuration for a stage, one step, and what a step may leave out.

The loss is the mean over the label tokens of the global batch, of all ranks and micro-batches. So a
step has the same gradient however many ranks share its examples.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime import torch_autocast
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
from torch import Tensor, nn
from torch import distributed as dist

from ml.memory.counts import counts_of
from ml.memory.states import buckets_of
from ml.recipe import Stage
from pipelines.errors import UsageError

_NEVER = 1 << 62
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LINEAR = nn.functional.linear


@dataclass(frozen=True)
class Stepped:
    """What became of a step: `norm` is the gradient's before clipping, None where not finite.

    `loss_scale` is what fp16's gradient was times, else 1. `skipped`: the weights are as they were.
    """

    norm: float | None
    loss_scale: float
    skipped: bool


def join_ranks() -> None:
    """Join the process group that the environment describes: NCCL with GPUs, else Gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        # DeepSpeed would compile an all-reduce of its own, where there may be no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # And it refuses fp16 where oneDNN has no kernels for it. Torch has its own, slower, so that
        # a recipe for GPUs can be tried on any processor.
        get_accelerator().is_fp16_supported = lambda: True
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)


def weights_dtype(stage: Stage) -> torch.dtype:
    """The format that a stage holds its weights in, the frozen ones too."""
    return _DTYPES.get(stage.precision, torch.float32)


def config_of(
    stage: Stage, model: nn.Module, *, rank_batch: int, accumulation: int, nvme: Path
) -> dict[str, Any]:
    """DeepSpeed's configuration for a stage.

    A rank has at most `rank_batch` examples in memory and `accumulation` micro-batches a step.
    Buckets are in proportion to the model, as the memory planner has them. `nvme` is a folder for
    what is offloaded to disk.
    """
    zero: dict[str, Any] = {"stage": stage.zero_stage}
    if stage.zero_stage:
        # Asynchronous reduction pays where there is a device that works meanwhile.
        zero |= buckets_of(counts_of(model)).zero_config()
        zero |= {"overlap_comm": get_accelerator().device_name() != "cpu"}
    for part, where in (
        ("offload_optimizer", stage.offload_optimizer),
        ("offload_param", stage.offload_parameters),
    ):
        if where != "none":
            zero[part] = {"device": where, "pin_memory": torch.cuda.is_available()}
            zero[part] |= {"nvme_path": str(nvme)} if where == "nvme" else {}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": rank_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": stage.clip_norm,
        "zero_optimization": zero,
        "steps_per_print": _NEVER,
    }
    if stage.precision == "bf16":
        config["bf16"] = {"enabled": True}
    elif stage.precision == "fp16":
        config["fp16"] = {"enabled": True, "loss_scale": 0, "initial_scale_power": 16}
    elif stage.precision == "bf16_autocast":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config


def open_engine(
    model: nn.Module, groups: Sequence[Mapping[str, Any]], stage: Stage, config: Mapping[str, Any]
) -> Any:
    """A DeepSpeed engine round a model on the CPU, with AdamW on the groups of parameters.

    Under ZeRO-3 the model is cut among the ranks one parameter after another, so no device ever
    holds it whole. Raises UsageError where offload needs what this machine lacks.
    """
    # DeepSpeed keeps these for the whole process, and a stage before may have set them. ZeRO-3's
    # linear function would keep the inputs of frozen layers.
    torch_autocast.TORCH_AUTOCAST_INITIALIZED = False
    nn.functional.linear = _LINEAR
    if stage.zero_stage == 3:
        for parameter in model.parameters():  # buffers stay: 16 bits round frequencies of positions
            parameter.data = parameter.data.to(weights_dtype(stage))
        deepspeed.zero.Init(module=model, config_dict_or_path=dict(config))
    # A rate of zero until the first step: stage 0 of 16 bits takes a step as it is made.
    own = [{**group, "initial_lr": group["lr"], "lr": 0.0} for group in groups]
    optimizer = _adam(own, stage)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=dict(config))
    if stage.zero_stage == 0 and dist.get_world_size() == 1:
        engine.enable_backward_allreduce = False  # which would copy all gradients to and fro
    if isinstance(engine.optimizer, FP16_UnfusedOptimizer):
        optimizer.state.clear()  # that step counts as one with a gradient of zero
    scaler: Any = getattr(engine.optimizer, "loss_scaler", None)
    if hasattr(scaler, "raise_error_at_min_scale"):
        scaler.raise_error_at_min_scale = False  # `most_skipped` ends the run, with a checkpoint
    return engine


def _adam(groups: list[dict[str, Any]], stage: Stage) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"betas": stage.betas, "eps": 1e-8}
    if stage.offload_optimizer == "none":
        # DeepSpeed's own needs a compiler, and is not faster than torch's fused one.
        return torch.optim.AdamW(groups, fused=True, **settings)
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    try:
        return DeepSpeedCPUAdam(groups, adamw_mode=True, **settings)
    except Exception as e:
        tools = [tool for tool in ("c++", "ninja") if shutil.which(tool) is None]
        lacking = f"{' and '.join(tools)} not found" if tools else str(e).splitlines()[0]
        raise UsageError(
            f"stage {stage.name}: offload_optimizer needs DeepSpeed's CPU Adam, which a C++ "
            f"compiler and ninja build at the first use: {lacking}. Install them, or set "
            'offload_optimizer = "none"'
        ) from e


def close_engine(engine: Any) -> None:
    """Let go of an engine's memory and hooks; its model is of no further use."""
    engine.destroy()
    engine.module = engine.optimizer = None


def learning_rate_factor(stage: Stage, step: int, steps: int) -> float:
    """What the rates are times in a step, from 1: a rise over the warm-up, then down to the least.

    It depends on the step alone, so a run that was resumed has the same rates.
    """
    if step <= stage.warmup_steps:
        return step / stage.warmup_steps
    if stage.schedule == "constant":
        return 1.0
    done = (step - stage.warmup_steps) / max(1, steps - stage.warmup_steps)
    return stage.least_rate + (1 - stage.least_rate) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def set_learning_rates(engine: Any, factor: float) -> None:
    """Set the rate of each group of parameters to `factor` times what the recipe says."""
    for group in _groups(engine):
        group["lr"] = group["initial_lr"] * factor


def learning_rate(engine: Any, part: str) -> float | None:
    """The rate of a part of the model at present; None where it is not trained."""
    rates = [group["lr"] for group in _groups(engine) if group["name"].startswith(part)]
    return float(rates[0]) if rates else None


def _groups(engine: Any) -> list[dict[str, Any]]:
    base = getattr(engine.optimizer, "optimizer", engine.optimizer)
    groups: list[dict[str, Any]] = base.param_groups
    return groups


def backward(engine: Any, loss: Tensor, *, label_tokens: int, is_last: bool) -> None:
    """Add a micro-batch's gradient, of its summed loss over the global batch's label tokens.

    All ranks call it as often in a step; `is_last` says that the step ends with it. Where a loss is
    not finite, neither is the gradient, on any rank: an infinite loss may have a finite one, and
    then DeepSpeed would go on.
    """
    engine.set_gradient_accumulation_boundary(is_last)
    sick = torch.where(torch.isfinite(loss.detach()), 1.0, math.nan)
    # DeepSpeed divides the sum over the ranks by their number.
    factor = dist.get_world_size() / label_tokens
    if isinstance(engine.optimizer, FP16_UnfusedOptimizer):
        factor *= _loss_scale(engine)  # DeepSpeed only takes it off the gradient
    engine.backward(loss * sick * factor, scale_wrt_gas=False)


def take_step(engine: Any) -> Stepped:
    """Step the optimiser, but not where the gradient is not finite: all ranks then leave it out.

    DeepSpeed's own optimisers look at the gradient, of which each rank has a part, and agree. In
    fp32 without ZeRO there is none of them, and each rank has the same gradient.
    """
    scale = _loss_scale(engine)
    if isinstance(engine.optimizer, torch.optim.Optimizer):
        gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        if math.isfinite(norm):
            engine.step()
        else:
            engine.zero_grad()
        skipped = not math.isfinite(norm)
    else:
        engine.step()
        skipped = not engine.was_step_applied()
        norm = float(engine.get_global_grad_norm())
        if isinstance(engine.optimizer, FP16_UnfusedOptimizer):
            norm /= scale
    return Stepped(
        norm=norm if math.isfinite(norm) and not skipped else None,
        loss_scale=scale,
        skipped=skipped,
    )


def _loss_scale(engine: Any) -> float:
    if not engine.fp16_enabled():
        return 1.0
    # The optimisers of stage 0 keep it in another place.
    scaler = getattr(engine.optimizer, "loss_scaler", None) or engine.optimizer.loss_scale_config
    return float(scaler.cur_scale)

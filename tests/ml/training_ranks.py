"""Ranks that train a tiny model by ml.training's loop: `python -m tests.ml.training_ranks PLAN`.

A plan is a list of groups of processes, one after another: `{"world": 2, "engines": [...]}`; each
engine does what `Run` says, on the same batches whatever the world. World 0 is plain torch.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import deepspeed
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from ml.batch import Batch
from ml.feed import Step
from ml.models import build
from ml.models.tuning import parameter_groups, tune
from ml.recipe import Stage
from ml.training.engine import close_engine, config_of, learning_rate_factor, open_engine
from ml.training.loop import NotFinite, Position, mean_loss, train
from ml.training.metrics import StepRow
from tests.ml.forked_ranks import in_ranks
from tests.ml.tiny_models import tiny_batch, tiny_model

GLOBAL_BATCH = 8
LENGTHS = (9, 5, 12, 4, 7, 15, 6, 8)
NO_IMAGE_STEP = 2
"""In this step no example of the last rank has an image."""


@dataclass
class Run:
    """What one engine does."""

    result: str  # file for what came of it, JSON of rank 0
    models: str  # folder of the tiny models
    stage: dict[str, Any] = field(default_factory=dict)
    steps: int = 5
    accumulation: int = 2
    fusion: str = "mlp_projector"
    sick: tuple[int, ...] = ()  # steps in which one image of the last rank is not finite
    peak: float | None = None

    @property
    def as_stage(self) -> Stage:
        return Stage.model_validate_json(
            json.dumps(
                {
                    "name": "tiny",
                    "data": "vqa",
                    "template": "plain",
                    "steps": self.steps,
                    "global_batch": GLOBAL_BATCH,
                    "micro_batch": 2,
                    "precision": "fp32",
                    "learning_rate": 1e-2,
                    "weight_decay": 0.1,
                    "warmup_steps": 2,
                    "train": {"encoder": "full", "fusion": "full", "llm": "full"},
                    **self.stage,
                }
            )
        )


def whole_batch(step: int, sick: bool) -> Batch:
    """The global batch of a step, in which every third example has no image."""
    images = tuple(
        i % 3 != 1 and not (step == NO_IMAGE_STEP and i >= GLOBAL_BATCH // 2)
        for i in range(GLOBAL_BATCH)
    )
    batch = tiny_batch(LENGTHS, images=images, seed=100 + step)
    if sick:
        pixels = batch.pixels.clone()
        pixels[GLOBAL_BATCH - 1] = math.inf
        has_image = batch.has_image.clone()
        has_image[GLOBAL_BATCH - 1] = True
        batch = replace(batch, pixels=pixels, has_image=has_image)
    return batch


def cut(batch: Batch, start: int, end: int) -> Batch:
    return Batch(
        batch.example_ids[start:end],
        batch.pixels[start:end],
        batch.has_image[start:end],
        batch.input_ids[start:end],
        batch.attention_mask[start:end],
        batch.labels[start:end],
    )


def feed(run: Run, rank: int, world: int) -> Iterator[Step]:
    size = GLOBAL_BATCH // world // run.accumulation
    for number in range(1, run.steps + 1):
        whole = whole_batch(number, number in run.sick)
        first = rank * GLOBAL_BATCH // world
        starts = [first + i * size for i in range(run.accumulation)]
        batches = tuple(cut(whole, start, start + size) for start in starts)
        yield Step(number, batches, number * GLOBAL_BATCH, 0.001)


def made(run: Run) -> Any:
    model = build(tiny_model(Path(run.models), fusion=run.fusion))
    tune(model, run.as_stage)
    return model


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """What the model computes with, whole."""
    found = {}
    for name, p in module.named_parameters():
        with deepspeed.zero.GatheredParameters([p], enabled=hasattr(p, "ds_id")):
            found[name] = p.detach().float().clone()
    return found


def keep(run: Run, which: str, weights: dict[str, Tensor]) -> None:
    """Leave weights beside the result, for the test to compare."""
    save_file(weights, Path(run.result).with_suffix(f".{which}.safetensors"))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def plain(run: Run) -> dict[str, Any]:
    """The same training in a few lines of torch, a global batch at a time."""
    stage, model = run.as_stage, made(run)
    groups = [{**g, "initial_lr": g["lr"]} for g in parameter_groups(model, stage)]
    optimizer = torch.optim.AdamW(groups, betas=stage.betas)
    autocast = torch.autocast("cpu", torch.bfloat16)
    losses, norms, flops, tokens = [], [], 0, 0
    model.train()
    for number in range(1, run.steps + 1):
        for group in optimizer.param_groups:
            factor = learning_rate_factor(stage, number, run.steps)
            group["lr"] = group["initial_lr"] * factor
        batch = whole_batch(number, sick=False)
        with FlopCounterMode(display=False) as counter:
            with autocast if stage.precision == "bf16_autocast" else nullcontext():
                loss = model(batch) / batch.label_tokens
            loss.backward()
        flops, tokens = flops + counter.get_total_flops(), tokens + batch.input_ids.numel()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), stage.clip_norm)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    keep(run, "after", weights_of(model))
    return {"losses": losses, "norms": norms, "flops_a_token": flops / tokens}


def use(run: Run) -> dict[str, Any]:
    rank, world = dist.get_rank(), dist.get_world_size()
    stage, model = run.as_stage, made(run)
    config = config_of(
        stage,
        model,
        rank_batch=GLOBAL_BATCH // world // run.accumulation,
        accumulation=run.accumulation,
        nvme=Path(run.result).parent,
    )
    groups = parameter_groups(model, stage)
    before = weights_of(model)
    if rank == 0:
        keep(run, "before", before)
    engine = open_engine(model, groups, stage, config)
    rows: dict[int, StepRow] = {}
    saved: list[list[int]] = []
    done: dict[str, Any] = {"error": None}
    unchanged: list[int] = []
    weights = before

    def record(row: StepRow) -> None:
        nonlocal weights
        if run.sick and row.step not in rows:
            weights, older = weights_of(engine.module), weights
            unchanged.extend([row.step] if same(older, weights) else [])
        rows[row.step] = row

    def validate() -> float:
        return mean_loss(engine, feed(run, rank, world))

    position = Position()
    try:
        train(
            engine,
            feed(run, rank, world),
            stage,
            steps=run.steps,
            until=run.steps,
            position=position,
            attempt=0,
            record=record,
            save=lambda at: saved.append([at.step, at.examples]),
            validate=validate if stage.validate_every else None,
            peak=run.peak,
        )
    except NotFinite as e:
        done["error"] = str(e)
    after = weights_of(engine.module)
    if rank == 0:
        keep(run, "after", after)
    done |= {"rows": [asdict(r) for r in rows.values()], "saved": saved, "unchanged": unchanged}
    close_engine(engine)
    return done


def main(plan: Path) -> int:
    deepspeed.utils.logger.setLevel(logging.WARNING)
    for number, group in enumerate(json.loads(plan.read_text(encoding="utf-8"))):
        runs = [
            Run(**{**fields, "sick": tuple(fields.get("sick", ()))}) for fields in group["engines"]
        ]
        if group["world"] == 0:
            for run in runs:
                Path(run.result).write_text(json.dumps(plain(run)), encoding="utf-8")
            continue

        def act(runs: list[Run] = runs) -> None:
            for run in runs:
                done = use(run)
                if dist.get_rank() == 0:
                    Path(run.result).write_text(json.dumps(done), encoding="utf-8")
                dist.barrier()

        if not in_ranks(group["world"], plan.with_suffix(f".{number}"), act):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Two ranks that train tiny models with real DeepSpeed engines.

`python -m tests.ml.model_ranks PLAN.json`: a plan lists cases, each a model's fields, a stage of
ZeRO, a precision and what else `losses_of` takes. Writes the losses of each, with those of one
process that trains on the same batches with plain PyTorch, to PLAN.json.out.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import distributed as dist

from ml import recipe
from ml.batch import Batch
from ml.models import VisionLanguageModel, build
from ml.models.tuning import parameter_groups, tune
from tests.ml.forked_ranks import in_ranks
from tests.ml.tiny_models import tiny_batch

WORLD = 2
_PRECISIONS: dict[str, Any] = {
    "fp32": {},
    "bf16_autocast": {},
    "bf16": {"bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True, "initial_scale_power": 8}},
}


def batch_of(step: int, ranks: range) -> Batch:
    """Two examples a rank. Rank 1 has no image in step 1, no example in step 2; 3 is 0 again."""
    whole = tiny_batch((9, 6, 12, 7), images=(True, True, step != 1, step != 1), seed=step % 3)
    rows = slice(2 * ranks.start, 2 * ranks.stop if step != 2 else 2)
    return Batch(
        whole.example_ids[rows],
        whole.pixels[rows],
        whole.has_image[rows],
        whole.input_ids[rows],
        whole.attention_mask[rows],
        whole.labels[rows],
    )


def prepared(case: dict[str, Any]) -> tuple[VisionLanguageModel, list[dict[str, Any]]]:
    model = build(recipe.Model.model_validate_json(json.dumps(case["model"])))
    stage = recipe.Stage.model_validate(
        {
            "name": "s",
            "data": "vqa",
            "template": "plain",
            "steps": 1,
            "train": case["train"],
            "learning_rate": 1e-2,
        }
    )
    tune(model, stage)
    model.gradient_checkpointing(case.get("checkpointing", False))
    for name, value in model.named_parameters():
        if name.endswith("_gate"):
            value.data.fill_(0.3)
    return model.train(), parameter_groups(model, stage)


def autocast(case: dict[str, Any]) -> Any:
    if case["precision"] == "bf16_autocast":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def losses_of(case: dict[str, Any], rank: int) -> list[float]:
    """The mean loss a token of each step, with DeepSpeed."""
    model, groups = prepared(case)
    # Adam would make whole steps of gradients that are zero but for rounding.
    optimizer: Any = torch.optim.SGD(groups)
    zero = {"stage": case["zero_stage"], "stage3_param_persistence_threshold": 0}
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config={
            "train_micro_batch_size_per_gpu": 2,
            "zero_optimization": zero,
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
            "gradient_clipping": 0.0,  # its default is 1
            **_PRECISIONS[case["precision"]],
        },
    )
    losses = []
    for step in range(case["steps"]):
        tokens = batch_of(step, range(WORLD)).label_tokens
        with autocast(case):
            loss = engine(batch_of(step, range(rank, rank + 1)))
        engine.backward(loss * WORLD / tokens)  # the engine takes the mean over the ranks
        engine.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses.append(float(total) / tokens)
    engine.destroy()
    return losses


def plain_losses_of(case: dict[str, Any]) -> list[float]:
    """The same of one process and one batch, without DeepSpeed."""
    model, groups = prepared(case)
    optimizer = torch.optim.SGD(groups)
    losses = []
    for step in range(case["steps"]):
        batch = batch_of(step, range(WORLD))
        with autocast(case):
            loss = model(batch) / batch.label_tokens
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def act(cases: list[dict[str, Any]], out: Path) -> None:
    """What a rank does: all cases, and the first one what they are compared with."""
    made = [losses_of(case, dist.get_rank()) for case in cases]
    if dist.get_rank() == 0:
        plain = [plain_losses_of(case) for case in cases]
        out.write_text(json.dumps([made, plain]), encoding="utf-8")


def main(plan: str) -> int:
    cases = json.loads(Path(plan).read_text(encoding="utf-8"))
    did = partial(act, cases, Path(f"{plan}.out"))
    return 0 if in_ranks(WORLD, Path(f"{plan}.meeting"), did) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

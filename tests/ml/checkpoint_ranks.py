"""Ranks that train a tiny model with real DeepSpeed engines, save checkpoints and load them.

`python -m tests.ml.checkpoint_ranks PLAN.json`. A plan is a list of groups of processes, one after
another: `{"world": 2, "engines": [...]}`; each of its engines takes a few steps, as `Run` says.
One process imports torch and DeepSpeed and forks the ranks of all groups, as importing takes longer
than what they do. Results go to the files that the plan names.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.runtime.zero.muon.muon_optimizer  # each engine imports it, for seconds
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from torch import Tensor, nn
from torch import distributed as dist

from ml.training.checkpoints import Checkpointer, load, load_masters
from tests.ml.forked_ranks import in_ranks

ROWS = 12
"""Rows of a step, over all ranks."""


@dataclass
class Run:
    """What one engine does."""

    result: str  # file for what came of it, JSON of rank 0
    stage: int
    precision: str = "fp32"
    folder: str | None = None  # of checkpoints
    load: str | None = None
    masters: str | None = None  # checkpoint of a stage before
    steps: int = 0  # before each checkpoint
    save: tuple[str, ...] = ()  # names of checkpoints
    more_steps: int = 0  # after the last
    seed: int = 0
    models: str | None = None  # folder of models: a vision-language model instead of Tiny
    fusion: str = "mlp_projector"
    tunings: dict[str, str] = field(default_factory=dict)  # of its parts
    dropout: float = 0.0
    width: int = 13
    seen: int = 3  # elements of a buffer
    train: tuple[str, ...] = ("embedding", "norm", "middle", "head", "gate", "image")
    carried: tuple[str, ...] = ()
    keep: int = 2
    offload: bool = False
    spoil: str | None = None  # what goes wrong before the first of them, see `spoiled_save`
    zero: dict[str, Any] = field(default_factory=dict)


class Tiny(nn.Module):
    """Odd sizes, which ZeRO pads; a single number; a frozen part; shared weights."""

    def __init__(self, width: int, dropout: float, seen: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(37, width)
        self.image = nn.Conv2d(3, width, 3)
        self.frozen = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.middle = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.full((1,), 0.3))
        self.head = nn.Linear(width, 37, bias=True)
        self.head.weight = self.embedding.weight
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("seen", torch.zeros(seen))
        self.register_buffer("positions", torch.arange(5.0), persistent=False)

    def forward(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        dtype = self.norm.weight.dtype
        self.get_buffer("seen").add_(1)
        x = self.embedding(tokens) + self.image(pixels.to(dtype)).mean((2, 3))[:, None]
        x = x + self.gate * torch.tanh(self.frozen(self.norm(x)))
        logits = self.head(self.dropout(torch.tanh(self.middle(x))))
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1), tokens.roll(1, 1).flatten()
        )


def tiny(run: Run) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The model and its groups of parameters."""
    model = Tiny(run.width, run.dropout, run.seen)
    for name, p in model.named_parameters():
        p.requires_grad_(name.split(".")[0] in run.train)
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() > 1]
    vectors = [p for p in trained if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return model, [group for group in groups if group["params"]]


def vision_language(run: Run, models: Path) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The same of a Bloom model of random weights, which shares its embedding with its head."""
    from ml import recipe
    from ml.models import build
    from ml.models.tuning import parameter_groups, tune
    from tests.ml.tiny_models import tiny_model

    model = build(tiny_model(models, "bloom", run.fusion), seed=run.seed)
    fields = {"name": "s", "data": "vqa", "template": "{question}", "steps": 1}
    stage = recipe.Stage.model_validate({**fields, "train": run.tunings})
    tune(model, stage)
    return model, parameter_groups(model, stage)


def engine_of(run: Run, world: int) -> Any:
    torch.manual_seed(run.seed)
    model, groups = vision_language(run, Path(run.models)) if run.models else tiny(run)
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": ROWS // world,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": run.stage, **run.zero},
    }
    optimizer: Any = torch.optim.AdamW(groups, lr=1e-2)
    if run.offload:
        optimizer = DeepSpeedCPUAdam(groups, lr=1e-2)
        config["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    if run.precision == "bf16":
        config["bf16"] = {"enabled": True}
    elif run.precision == "fp16":
        # An initial scale that overflows: the scale is in motion when it is saved.
        config["fp16"] = {"enabled": True, "initial_scale_power": 17, "loss_scale_window": 2}
    elif run.precision == "bf16_autocast":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, lr_scheduler=schedule, config=config
    )
    return engine


def train(engine: Any, steps: int) -> list[float]:
    """Losses of the next steps, over the rows of all ranks."""
    rank, world = dist.get_rank(), dist.get_world_size()
    mine = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    losses = []
    for _ in range(steps):
        seed = 100 + engine.global_steps
        if isinstance(engine.module, Tiny):
            generator = torch.Generator().manual_seed(seed)
            tokens = torch.randint(0, 37, (ROWS, 5), generator=generator)[mine]
            pixels = torch.rand(ROWS, 3, 4, 4, generator=generator)[mine]
            loss = engine(tokens, pixels)
        else:
            loss = vision_language_loss(engine, seed, mine, world)
        engine.backward(loss)
        engine.step()
        total = loss.detach().float() / world
        dist.all_reduce(total)
        losses.append(float(total))
    return losses


def vision_language_loss(engine: Any, seed: int, mine: slice, world: int) -> Tensor:
    from tests.ml.tiny_models import tiny_batch

    whole = tiny_batch(
        (9, 5, 12) * (ROWS // 3), images=(True, False, True) * (ROWS // 3), seed=seed
    )
    rows = {name: getattr(whole, name)[mine] for name in whole.__dataclass_fields__}
    loss: Tensor = engine(type(whole)(**rows)) * world / whole.label_tokens
    return loss


def weights_of(engine: Any) -> dict[str, list[float]]:
    """What the model computes with, whole, as DeepSpeed itself gathers it."""
    found = {}
    for name, p in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([p], enabled=hasattr(p, "ds_id")):
            found[name] = p.detach().float().flatten().tolist()
    return found


def use(run: Run, world: int) -> dict[str, Any]:
    engine = engine_of(run, world)
    done: dict[str, Any] = {}
    checkpointer = None
    if run.folder:
        checkpointer = Checkpointer(run.folder, run.keep, run.carried)
    dist.barrier()
    if run.load:
        try:
            done["state"] = load(engine, run.load)
        except ValueError as e:
            return {"refused": f"{type(e).__name__}: {e}"}
        done["loaded_weights"] = weights_of(engine)
    if run.masters:
        load_masters(engine, run.masters)
        done["loaded_weights"] = weights_of(engine)
    if run.spoil and checkpointer:
        done["failure"] = spoiled_save(run.spoil, engine, checkpointer)
    done["losses"] = []
    for name in run.save or ("",):
        done["losses"] += train(engine, run.steps)
        done["weights"] = weights_of(engine)
        if name and checkpointer:
            state = {"recipe": {"name": "tiny"}, "examples": ROWS * engine.global_steps}
            checkpointer.save(engine, name=name, state=state)
            state["examples"] = 0  # what the caller does with it later is not saved
    done["counters"] = [engine.global_steps, engine.skipped_steps, engine.global_samples]
    done["rates"] = [g["lr"] for g in engine.optimizer.param_groups]
    done["scale"] = getattr(engine.optimizer, "loss_scale", 1.0)
    done["more"] = train(engine, run.more_steps)
    if checkpointer:
        checkpointer.wait()
    done["buffers"] = {name: b.tolist() for name, b in engine.module.named_buffers()}
    engine.destroy()
    return done


def spoiled_save(how: str, engine: Any, checkpointer: Checkpointer) -> str:
    """Saves while something goes wrong; gives what was said of it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if how == "no_room" and dist.get_rank() == 1:
            # As on a full disk, the thread's write fails with an OSError, and on one rank alone.
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        checkpointer.save(engine, name="spoilt", state={"a": {1}} if how == "no_json" else {})
        checkpointer.wait()
    except (RuntimeError, ValueError) as e:
        return f"{type(e).__name__}: {e}"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return "nothing"


def act(engines: list[dict[str, Any]]) -> None:
    """What a rank of a group does: its engines, one after another."""
    for fields in engines:
        run = Run(**fields)
        done = use(run, dist.get_world_size())
        if dist.get_rank() == 0:
            Path(run.result).write_text(json.dumps(done), encoding="utf-8")
        dist.barrier()


def main(plan: str) -> int:
    groups = json.loads(Path(plan).read_text(encoding="utf-8"))
    if any(run.get("models") for group in groups for run in group["engines"]):
        import ml.models  # noqa: F401  # before there are ranks
    gc.freeze()  # what was imported is no garbage, and ranks need not look through it
    for number, group in enumerate(groups):
        ended_well = in_ranks(
            group["world"],
            Path(f"{plan}.{number}.meeting"),
            partial(act, group["engines"]),
            pids=Path(group["pids"]) if "pids" in group else None,
        )
        if not ended_well:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

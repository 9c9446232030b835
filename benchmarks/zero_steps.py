"""What a step takes under ZeRO 0 to 3, beside plain data parallelism of torch.

    python -m benchmarks.zero_steps [--processes 2] [--precision bf16_autocast] [--tokens 128]
        [--steps 20] [--rounds 5]

A Bloom of 29 million parameters learns from 4 texts of so many tokens a process. The stages run
through what training uses: `config_of`, `open_engine`, `backward` and `take_step` of
ml/training/engine.py. Beside them DistributedDataParallel has the same model, numbers, clipping and
fused AdamW. Each contender trains in processes of its own, warms up for three steps and times the
rest; rounds are interleaved, the table has medians and what they are of DDP's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.made_bloom import made_bloom, next_token_loss, weights_and_vectors
from benchmarks.report import RESULTS, write_json

ROOT = Path(__file__).resolve().parents[1]
CONTENDERS = ("ddp", "zero-0", "zero-1", "zero-2", "zero-3")
VOCABULARY, HIDDEN = 8192, 512
MICRO_BATCH, WARM_UP = 4, 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16_autocast"), default="bf16_autocast")
    parser.add_argument("--tokens", type=int, default=128, help="of a text")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    told: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for round_ in range(args.rounds):
        for name in CONTENDERS:
            told[name].append(_run(name, args))
            print(f"round {round_}: {name} {told[name][-1]}", file=sys.stderr, flush=True)
    medians = {name: statistics.median(t["step_s"] for t in told[name]) for name in CONTENDERS}
    print("| | s a step | of DDP | loss after the last step |\n| --- | ---: | ---: | ---: |")
    for name, median in medians.items():
        loss = told[name][-1]["loss"]
        print(f"| {name} | {median:.4f} | {median / medians['ddp']:.2f} | {loss:.4f} |")
    write_json(RESULTS, "zero_steps", {"settings": vars(args), "rounds": told, "step_s": medians})
    return 0


def _run(name: str, args: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="zero-steps-") as folder:
        threads = max(1, len(os.sched_getaffinity(0)) // args.processes)
        asked = json.dumps({**vars(args), "contender": name, "folder": folder})
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={args.processes}", "--no-python", sys.executable, "-c"]
        command += ["from benchmarks.zero_steps import rank_program; rank_program()"]
        environment = {"ZERO_STEPS": asked, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stdout}\n{done.stderr}")
        told: dict[str, float] = json.loads(Path(folder, "told.json").read_text())
    return told


def rank_program() -> None:
    """What each process does; the first one leaves seconds a step, and the last loss."""
    import torch
    from torch import distributed as dist

    from ml.training.engine import join_ranks

    asked = json.loads(os.environ["ZERO_STEPS"])
    join_ranks()
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = made_bloom(VOCABULARY, HIDDEN)
    random = torch.Generator().manual_seed(rank)
    ids = torch.randint(0, VOCABULARY, (MICRO_BATCH, asked["tokens"]), generator=random)
    prepare = _ddp if asked["contender"] == "ddp" else _zero
    step = prepare(model, ids, asked)
    for _ in range(WARM_UP):
        step()
    dist.barrier()
    start = time.perf_counter()
    losses = [step() for _ in range(asked["steps"])]
    dist.barrier()
    took = time.perf_counter() - start
    mean = torch.tensor(losses[-1], dtype=torch.float64)
    dist.all_reduce(mean)
    if rank == 0:
        told = {"step_s": took / asked["steps"], "loss": float(mean) / dist.get_world_size()}
        Path(asked["folder"], "told.json").write_text(json.dumps(told))


def _groups(model: Any) -> list[dict[str, Any]]:
    return [{"params": group, "name": "llm", "lr": 1e-4} for group in weights_and_vectors(model)]


def _ddp(model: Any, ids: Any, asked: dict[str, Any]) -> Callable[[], float]:
    import torch

    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    wrapped = torch.nn.parallel.DistributedDataParallel(model.to(device))
    optimizer = torch.optim.AdamW(_groups(wrapped), fused=True, betas=(0.9, 0.95))
    ids = ids.to(device)
    autocast = asked["precision"] == "bf16_autocast"

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
            loss = next_token_loss(wrapped, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(wrapped.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return step


def _zero(model: Any, ids: Any, asked: dict[str, Any]) -> Callable[[], float]:
    from ml.recipe import Stage
    from ml.training.engine import backward, config_of, open_engine, set_learning_rates, take_step

    stage = Stage.model_validate(
        {
            "name": "measured",
            "data": "captions",
            "template": "plain",
            "steps": 1,
            "precision": asked["precision"],
            "zero_stage": int(asked["contender"].removeprefix("zero-")),
        }
    )
    config = config_of(stage, model, rank_batch=MICRO_BATCH, accumulation=1, nvme=Path())
    engine = open_engine(model, _groups(model), stage, config)
    engine.train()
    set_learning_rates(engine, 1.0)
    ids = ids.to(engine.device)

    def step() -> float:
        loss = next_token_loss(engine, ids)
        # A mean already: a rank's label tokens are those of the global batch over the ranks.
        backward(engine, loss, label_tokens=asked["processes"], is_last=True)
        take_step(engine)
        return float(loss.detach())

    return step


if __name__ == "__main__":
    sys.exit(main())

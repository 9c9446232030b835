"""What checkpoints cost training: seconds that a save stalls it, and what the writing beside takes.

    python -m benchmarks.checkpoints [--parameters 60e6] [--processes 2] [--zero-stage 2]
        [--steps 100] [--every 50] [--rounds 3] [--folder DIR]

Ranks train a stack of linear layers with Adam, in bf16 autocast, on as many rows a step as a small
batch has tokens. Each round takes `--steps` steps without and with a checkpoint every `--every`
steps, the first one after half as many, so that all of the writing falls into training. The share
lost is by the medians over the rounds, once of wall time and once of the first rank's CPU time, in
which other work on the machine counts for little. **Bar: under 5 % at one every 50 steps.**
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
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, write_json

BAR = 0.05
WIDTH = 1024
TOKENS = 256  # a rank and step, those of a micro-batch of short texts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--parameters", type=float, default=60e6, help="of the model, about")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--zero-stage", type=int, default=2, choices=range(4))
    parser.add_argument("--steps", type=int, default=100, help="of each series")
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where checkpoints go; default: temporary")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measured = _run(arguments, Path(folder))
    _report(arguments, measured)
    return 0


def _run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    settings = {k: v for k, v in vars(arguments).items() if k != "folder"}
    environment = {
        **os.environ,
        "WORLD_SIZE": str(arguments.processes),
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // arguments.processes)),
        "CHECKPOINT_BENCHMARK": json.dumps({**settings, "folder": str(folder)}),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.checkpoints import _rank; _rank()"],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=sys.stderr,
        )
        for rank in range(arguments.processes)
    ]
    try:
        if any(rank.wait() for rank in ranks):
            raise RuntimeError("a rank failed")
    finally:
        for rank in ranks:
            rank.kill()
    measured: dict[str, Any] = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    return measured


def _rank() -> None:
    """What each rank does; the first one leaves the times."""
    import deepspeed
    import torch
    from torch import distributed as dist
    from torch import nn

    from ml.training.checkpoints import Checkpointer

    settings = json.loads(os.environ["CHECKPOINT_BENCHMARK"])
    folder = Path(settings["folder"])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # A meeting by file: no port to find free.
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
    )
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # compiles for a minute
    deepspeed.init_distributed("gloo", verbose=False)
    torch.manual_seed(0)
    layers = max(1, round(settings["parameters"] / WIDTH**2))
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    parameters = sum(p.numel() for p in model.parameters())
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-5),
        config={
            "train_micro_batch_size_per_gpu": TOKENS,
            "torch_autocast": {"enabled": True, "dtype": "bfloat16"},
            "zero_optimization": {"stage": settings["zero_stage"]},
            "steps_per_print": sys.maxsize,
        },
    )
    batch = torch.randn(TOKENS, WIDTH, device=engine.device)

    def series(checkpointer: Checkpointer | None) -> tuple[float, float]:
        """Wall and CPU seconds of a series of steps."""
        dist.barrier()
        wall, cpu = time.perf_counter(), time.process_time()
        for step in range(settings["steps"]):
            engine.backward(engine(batch).float().square().mean())
            engine.step()
            if checkpointer and step % settings["every"] == settings["every"] // 2:
                before = time.perf_counter()
                checkpointer.save(engine, name=f"step-{step:06}", state={})
                stalls.append(time.perf_counter() - before)
        if checkpointer:
            checkpointer.wait()
        dist.barrier()
        return time.perf_counter() - wall, time.process_time() - cpu

    checkpointer = Checkpointer(folder / "checkpoints")
    dist.barrier()
    engine.backward(engine(batch).float().square().mean())
    engine.step()
    checkpointer.save(engine, name="warm-up", state={})
    checkpointer.wait()
    stalls: list[float] = []
    without, with_them = [], []
    for _ in range(settings["rounds"]):
        without.append(series(None))
        with_them.append(series(checkpointer))
    start = time.perf_counter()
    checkpointer.save(engine, name="last", state={})
    checkpointer.wait()
    whole = time.perf_counter() - start
    if rank == 0:
        sizes = [f.stat().st_size for f in (folder / "checkpoints" / "last").iterdir()]
        measured = {
            "parameters": parameters,
            "checkpoint_bytes": sum(sizes),
            "wall_and_cpu_seconds_without": without,
            "wall_and_cpu_seconds_with": with_them,
            "stall_seconds": stalls,
            "save_and_wait_seconds": whole,
        }
        (folder / "measured.json").write_text(json.dumps(measured), encoding="utf-8")


def _report(arguments: argparse.Namespace, measured: dict[str, Any]) -> None:
    (wall, cpu), (wall_with, cpu_with) = (
        [
            statistics.median(column)
            for column in zip(*measured[f"wall_and_cpu_seconds_{name}"], strict=True)
        ]
        for name in ("without", "with")
    )
    stall = statistics.median(measured["stall_seconds"])
    lost = {
        "stalls": stall * arguments.steps / arguments.every / wall,
        "wall": wall_with / wall - 1,
        "cpu": cpu_with / cpu - 1,
    }
    rows = {
        "parameters": f"{measured['parameters'] / 1e6:.0f} M",
        "processes, ZeRO stage": f"{arguments.processes}, {arguments.zero_stage}",
        "checkpoint": f"{measured['checkpoint_bytes'] / 1e9:.2f} GB",
        "step": f"{wall / arguments.steps:.3f} s",
        "stall of a save": f"{stall:.3f} s",
        "save and wait": f"{measured['save_and_wait_seconds']:.2f} s",
        f"lost to stalls, one every {arguments.every} steps": f"{lost['stalls']:.1%}",
        "lost in all, wall time": f"{lost['wall']:.1%} (bar {BAR:.0%})",
        "lost in all, CPU time": f"{lost['cpu']:.1%}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    settings = {k: v for k, v in vars(arguments).items() if k != "folder"}
    write_json(RESULTS, "checkpoints", {"settings": settings, **measured, "lost_share": lost})


if __name__ == "__main__":
    sys.exit(main())

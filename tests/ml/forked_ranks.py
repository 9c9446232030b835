"""Ranks as forks of one process, as importing DeepSpeed takes longer than what they do."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed as dist

from ml.training.engine import join_ranks


def in_ranks(world: int, meeting: Path, act: Callable[[], None], pids: Path | None = None) -> bool:
    """Do `act` in each of so many ranks of a process group; whether all ended well.

    `meeting` is a file that is not there yet. Where one rank fails the others are killed. The
    processes' ids go to the file `pids`, JSON by rank.
    """
    ranks = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _join(rank, world, meeting)
                act()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        ranks.append(child)
    if pids is not None:
        pids.write_text(json.dumps(ranks), encoding="utf-8")
    left = set(ranks)
    failed = False
    while left:
        child, status = os.wait()
        left.discard(child)
        if status != 0 and not failed:
            failed = True
            for other in left:  # they would wait for it for ever
                os.kill(other, signal.SIGKILL)
    return not failed


def _join(rank: int, world: int, meeting: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", LOCAL_SIZE=str(world))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    join_ranks()

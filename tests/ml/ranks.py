"""What the launcher's tests share: what ranks told, and processes that must be gone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.ml.rank_program"
IMPORTABLE = {"PYTHONPATH": str(ROOT)}
"""Where ranks find the program: tests are not packaged."""


def told(folder: Path, ranks: int, attempt: int = 0, within_s: float = 60.0) -> list[Any]:
    """What each rank told in its file, by rank; waits for all of them."""
    files = [folder / f"attempt{attempt}-rank{rank}.json" for rank in range(ranks)]
    until = time.monotonic() + within_s
    while not all(f.exists() for f in files):
        assert time.monotonic() < until, f"only {sorted(p.name for p in folder.iterdir())}"
        time.sleep(0.02)
    return [json.loads(f.read_text()) for f in files]


def alive(pids: Iterable[int]) -> list[int]:
    """Those of the processes that run; a zombie does not."""
    running = []
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if stat.rsplit(")", 1)[1].split()[0] != "Z":
            running.append(pid)
    return running


def gone(pids: Iterable[int], within_s: float = 10.0) -> bool:
    """Whether all of the processes end within that time; those that do not are killed."""
    pids = list(pids)
    until = time.monotonic() + within_s
    while (left := alive(pids)) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, 9)
    return not left

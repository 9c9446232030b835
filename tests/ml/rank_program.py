"""What the ranks of the launcher's tests run: `python -m tests.ml.rank_program DO FOLDER ...`.

Each leaves what it has to tell in a file of its own in FOLDER.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RANK = int(os.environ["RANK"])
ATTEMPT = int(os.environ["ROUNDTRIP_ATTEMPT"])


def tell(folder: Path, what: object) -> None:
    """Leave `what` for the test, all at once."""
    name = f"attempt{ATTEMPT}-rank{RANK}.json"
    (folder / f".{name}").write_text(json.dumps(what))
    (folder / f".{name}").rename(folder / name)


def environment(folder: Path) -> None:
    tell(folder, dict(os.environ))


def fail(folder: Path, rank: str, how: str) -> None:
    """One rank ends with exit code 7, or by an exception, while the others wait for ever."""
    tell(folder, {"pid": os.getpid()})
    if int(rank) != RANK:
        time.sleep(1000)
    while len(list(folder.glob("attempt*.json"))) < int(os.environ["WORLD_SIZE"]):
        time.sleep(0.02)
    if how == "exit":
        sys.exit(7)
    raise ValueError(f"no such {how}")


def wait(folder: Path) -> None:
    """Wait for ever with a child that does, and tell the process ids: guard, rank, child."""
    child = subprocess.Popen(["sleep", "1000"])
    tell(folder, {"guard": os.getppid(), "pid": os.getpid(), "child": child.pid})
    child.wait()


def end_late(folder: Path) -> None:
    """Wait for ever, and when told to end do so by itself, after more than a moment."""

    def end(number: int, frame: object) -> None:
        time.sleep(5)
        tell(folder, {"ended": True})
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    (folder / f"waits-{RANK}").touch()
    time.sleep(1000)


def wait_at_first(folder: Path) -> None:
    """What `wait` does on the first attempt; nothing on the next."""
    if ATTEMPT == 0:
        wait(folder)
    tell(folder, {"pid": os.getpid()})


def tick(folder: Path, times: str) -> None:
    """Print a number ten times a second."""
    for i in range(int(times)):
        print(f"tick {i}")
        time.sleep(0.1)
    tell(folder, {"ticks": int(times)})


def say(folder: Path, characters: str) -> None:
    """Print a long line, one that is redrawn, and one that ends with the process."""
    print("<" + "=" * (int(characters) - 2) + ">")
    print("10 %\r20 %\r30 %")
    print("no end", end="")


def all_reduce(folder: Path) -> None:
    """Sum over all ranks, by gloo."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    value = torch.tensor([10.0**RANK])
    dist.all_reduce(value)
    dist.destroy_process_group()
    tell(folder, {"sum": value.item()})


if __name__ == "__main__":
    actions = (environment, fail, wait, end_late, wait_at_first, tick, say, all_reduce)
    {action.__name__: action for action in actions}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])

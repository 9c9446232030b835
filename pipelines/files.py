"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside the file under a hidden name, which nobody ingests, then take its place.

    Makes the folder. Where `write` raises, a file that was there stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as out:
            write(out)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)

"""One pass over a data set, timed: what benchmarks/training_feed.py has each contender do.

Runs in the environment of any contender, and needs nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

BATCH = 32
SEED = 7
SIDE_PX = 224

Batches = Iterator[Sequence[tuple[int, Any]]]
"""Batches of examples: id and image, whose `len` or first dimension says that it is there."""


def timed_pass(open_batches: Callable[[], Batches], order: Path) -> dict[str, float]:
    """Go through all that `open_batches` gives; the ids go to the file `order`, in order.

    Opening counts: seconds and CPU seconds of this process and its children from there.
    """
    ids: list[int] = []
    content = 0
    first: float | None = None
    start, used = time.perf_counter(), _cpu_s()
    for batch in open_batches():
        first = first or time.perf_counter() - start
        for example_id, image in batch:
            ids.append(example_id)
            content += len(image)
    took, cpu = time.perf_counter() - start, _cpu_s() - used
    order.write_text(json.dumps(ids))
    return {
        "examples": len(ids),
        "content": content,
        "seconds": took,
        "first_batch_seconds": first or took,
        "cpu_seconds": cpu,
    }


def in_batches(examples: Iterable[tuple[int, Any]]) -> Batches:
    """Examples that come one at a time, `BATCH` of them together."""
    left = iter(examples)
    while batch := list(islice(left, BATCH)):
        yield batch


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system

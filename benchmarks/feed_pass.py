"""One pass over a data set, timed: what benchmarks/training_feed.py has each contender do.

Runs in the environment of any contender: torch, numpy, pillow and simplejpeg are all it needs, and
torch only where images are decoded.
"""

from __future__ import annotations

import io
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


def pixels(content: Any) -> Any:
    """An image file as a tensor of uint8 [SIDE_PX, SIDE_PX, 3].

    Floats are made of it where the model is, on a GPU as a rule.
    """
    import numpy as np
    import torch

    return torch.from_numpy(np.array(picture(content)))


def picture(content: Any) -> Any:
    """An image file as an image of Pillow's, SIDE_PX wide and high."""
    import simplejpeg
    from PIL import Image

    try:
        decoded = simplejpeg.decode_jpeg(content, min_height=SIDE_PX, min_width=SIDE_PX)
        whole = Image.fromarray(decoded)
    except ValueError:  # PNG, of which some corpora have a few
        whole = Image.open(io.BytesIO(content)).convert("RGB")
    return whole.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system

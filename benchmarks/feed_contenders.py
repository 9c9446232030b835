"""The project's feed, and decoding alone, each in a process of its own.

    python -m benchmarks.feed_contenders WHAT TABLE ORDER CORES

WHAT: encoded (a rank's examples as they are stored), decoded (batches of the whole feed), and for
comparison pass (row groups one after another, no order), decode-threads and decode-processes (the
images are in memory, nothing else is done). Prints what `timed_pass` measured as JSON.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401  (pyarrow would at first use: imports are not timed, the peers' neither)
import psutil
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.feed_pass import (
    BATCH,
    SEED,
    SIDE_PX,
    Batches,
    in_batches,
    picture,
    pixels,
    timed_pass,
)
from ml.feed import Feed, open_table, read_token_ids
from ml.feed.encoded import EncodedExamples
from ml.feed.examples import Column
from ml.feed.index import index_of
from ml.recipe import Data, Stage
from pipelines.figures.tokenizers import tokenizer_sha256

TOKENIZER = "tokenizer"
"""The folder beside the lake that has the tokenizer of its token ids."""


class _Processor:
    """The peers' way from an image to pixels, and a real tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        self.pad_id, self.eos_id = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        self.image_px = SIDE_PX

    def draw(self, content: bytes, into: torch.Tensor) -> None:
        into.permute(1, 2, 0).numpy()[:] = np.asarray(picture(content))


def encoded(table: Path) -> Batches:
    """One epoch of a world of one, in global batches."""
    pinned = open_table(table)
    index = index_of(pinned, Data(), "train")
    with ThreadPoolExecutor(4) as readers:
        examples = EncodedExamples(pinned, index, ("text",), readers, seed=SEED, global_batch=BATCH)
        for step in examples.read(0, len(index) // BATCH):
            yield list(zip(step.example_ids, step.images, strict=True))


def one_after_another(table: Path) -> Batches:
    """Every row group once, in the table's order."""
    pinned = open_table(table)
    for number in range(len(pinned.files)):
        for group in range(pinned.footer(number).num_row_groups):
            read = pinned.read_group(number, group, ("example_id", "image"))
            ids, images = (Column(read[name]) for name in ("example_id", "image"))
            yield [(ids[row], images[row]) for row in range(len(read))]


def decoded(table: Path) -> Batches:
    """One epoch of the whole feed: pixels, token ids that the lake has, labels."""
    stage = Stage.model_validate(
        {
            "name": "pass",
            "data": "captions",
            "template": "describe",
            "epochs": 1,
            "global_batch": BATCH,
            "micro_batch": BATCH,
        }
    )
    tokenizer = table.parents[2] / TOKENIZER
    feed = Feed(
        open_table(table),
        stage=stage,
        data=Data(),
        processor=_Processor(tokenizer),
        seed=SEED,
        token_ids=read_token_ids(
            open_table(table.with_name("token_ids")), tokenizer_sha256(tokenizer)
        ),
    )
    for step in feed:
        for batch in step.batches:
            yield list(zip(batch.example_ids, batch.pixels, strict=True))


def _in_memory(table: Path) -> list[bytes]:
    return [bytes(image) for batch in one_after_another(table) for _, image in batch]


def _decode_alone(what: str, table: Path, order: Path, cores: int) -> dict[str, float]:
    images = _in_memory(table)
    if what == "decode-threads":
        with ThreadPoolExecutor(cores) as threads:
            return timed_pass(lambda: in_batches(enumerate(threads.map(pixels, images))), order)
    with get_context("spawn").Pool(cores, torch.set_num_threads, (1,)) as processes:
        processes.map(len, images[:cores])  # they have started
        before = children_cpu_s()
        told = timed_pass(
            lambda: in_batches(enumerate(processes.imap(_decoded_there, images, BATCH))), order
        )
        # The system counts a child's time with its parent's when it has ended.
        return told | {"cpu_seconds": told["cpu_seconds"] + children_cpu_s() - before}


def children_cpu_s() -> float:
    """CPU seconds of the processes of `multiprocessing` that run."""
    times = (psutil.Process(child.pid).cpu_times() for child in active_children())
    return sum(used.user + used.system for used in times)


def _decoded_there(content: bytes) -> bytes:
    """Decoded, but not sent back."""
    return bytes(len(pixels(content)))


def main() -> int:
    what, table, order, cores = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    ways = {"encoded": encoded, "decoded": decoded, "pass": one_after_another}
    if what in ways:
        told = timed_pass(lambda: ways[what](table), order)
    else:
        told = _decode_alone(what, table, order, cores)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

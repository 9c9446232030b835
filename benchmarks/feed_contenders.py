"""The project's feed, and decoding alone, each in a process of its own.

    python -m benchmarks.feed_contenders WHAT TABLE ORDER CORES

WHAT: encoded (a rank's examples as they are stored), decoded (batches of the whole feed), and for
comparison pass (row groups one after another, no order), copy (the images are in memory, each is
copied, in random order) and decode-threads, decode-batches, decode-processes (the images are in
memory and nothing else is done; a task is an image, or a batch). Prints what `timed_pass` measured
as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import pandas  # noqa: F401  (pyarrow would at first use: imports are not timed, the peers' neither)
import psutil
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.feed_pass import BATCH, SEED, SIDE_PX, Batches, in_batches, timed_pass
from ml.batch import empty_pixels, squares
from ml.feed import Feed, open_table, read_token_ids
from ml.feed.encoded import EncodedExamples
from ml.feed.examples import Column
from ml.feed.index import index_of
from ml.models import Processor
from ml.recipe import Data, Encoder, Stage
from pipelines.figures.tokenizers import tokenizer_sha256

TOKENIZER = "tokenizer"
"""The folder beside the lake that has the tokenizer of its token ids."""


@cache
def processor_of(table: Path) -> Processor:
    """The training's, of the tokenizer beside the lake."""
    folder = table.parents[2] / TOKENIZER
    encoder = Encoder(kind="cnn", image_px=SIDE_PX)
    return Processor(PreTrainedTokenizerFast.from_pretrained(folder), encoder, folder)


def encoded(table: Path) -> Batches:
    """One epoch of a world of one, in global batches."""
    pinned = open_table(table)
    index = index_of(pinned, Data(), "train")
    with ThreadPoolExecutor(4) as readers:
        examples = EncodedExamples(pinned, index, ("text",), readers, seed=SEED, global_batch=BATCH)
        for step in examples.read(0, len(index) // BATCH):
            images = [bytes(image) for image in step.images if image is not None]
            yield list(zip(step.example_ids, images, strict=True))


def one_after_another(table: Path) -> Batches:
    """Every row group once, in the table's order."""
    pinned = open_table(table)
    for number in range(len(pinned.files)):
        for group in range(pinned.footer(number).num_row_groups):
            read = pinned.read_groups(number, group, ("example_id", "image"))
            ids, images = (Column(read[name]) for name in ("example_id", "image"))
            yield [(ids[row], bytes(images[row])) for row in range(len(read))]


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
    feed = Feed(
        open_table(table),
        stage=stage,
        data=Data(),
        processor=processor_of(table),
        seed=SEED,
        token_ids=read_token_ids(
            open_table(table.with_name("token_ids")), tokenizer_sha256(table.parents[2] / TOKENIZER)
        ),
    )
    for step in feed:
        for batch in step.batches:
            yield list(zip(batch.example_ids, batch.pixels, strict=True))


def _copied(table: Path, order: Path) -> dict[str, float]:
    """What no pass at random can be faster than."""
    images = [memoryview(image) for image in _in_memory(table)]
    places = np.random.default_rng(SEED).permutation(len(images)).tolist()
    return timed_pass(lambda: in_batches((i, bytes(images[i])) for i in places), order)


def _in_memory(table: Path) -> list[bytes]:
    return [image for batch in one_after_another(table) for _, image in batch]


def _decode_alone(what: str, table: Path, order: Path, cores: int) -> dict[str, float]:
    images = _in_memory(table)
    processor = processor_of(table)
    if what == "decode-threads":
        with ThreadPoolExecutor(cores) as threads:
            return timed_pass(
                lambda: in_batches(enumerate(threads.map(processor.image, images))), order
            )
    if what == "decode-batches":
        batches = in_batches(enumerate(images))
        with ThreadPoolExecutor(cores) as threads:
            return timed_pass(
                lambda: threads.map(partial(_decoded_batch, processor), batches), order
            )
    with get_context("spawn").Pool(cores, _begin_process, (table,)) as processes:
        there = partial(_decoded_there, table)
        processes.map(there, images[: 8 * cores], 1)  # they have started
        before = children_cpu_s()
        told = timed_pass(
            lambda: in_batches(enumerate(processes.imap(there, images, BATCH))), order
        )
        # The system counts a child's time with its parent's when it has ended.
        return told | {"cpu_seconds": told["cpu_seconds"] + children_cpu_s() - before}


def children_cpu_s() -> float:
    """CPU seconds of the processes of `multiprocessing` that run."""
    times = (psutil.Process(child.pid).cpu_times() for child in active_children())
    return sum(used.user + used.system for used in times)


def _decoded_batch(
    processor: Processor, batch: Sequence[tuple[int, bytes]]
) -> list[tuple[int, torch.Tensor]]:
    drawn = empty_pixels(len(batch), processor.image_px)
    for (_, content), square in zip(batch, squares(drawn), strict=True):
        processor.draw(content, square)
    return [(example_id, pixels) for (example_id, _), pixels in zip(batch, drawn, strict=True)]


def _begin_process(table: Path) -> None:
    torch.set_num_threads(1)
    processor_of(table)


def _decoded_there(table: Path, content: bytes) -> bytes:
    """Decoded, but not sent back."""
    return bytes(len(processor_of(table).image(content)))


def main() -> int:
    what, table, order, cores = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    ways = {"encoded": encoded, "decoded": decoded, "pass": one_after_another}
    if what in ways:
        told = timed_pass(lambda: ways[what](table), order)
    elif what == "copy":
        told = _copied(table, order)
    else:
        told = _decode_alone(what, table, order, cores)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

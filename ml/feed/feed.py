"""Steps of training from a pinned table: read, decoded, tokenised and batched beside the training.

A thread makes the next steps while one is trained. Row groups are read and images decoded by pools
of threads, for readers and decoders let go of Python's lock. The only state is how many examples
were consumed.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ml.batch import Batch
from ml.cores import usable_cores
from ml.feed.batches import Processor
from ml.feed.encoded import EncodedExamples
from ml.feed.index import TRAIN, index_of
from ml.feed.order import accumulation
from ml.feed.steps import AHEAD, Decoding
from ml.feed.table import PinnedTable
from ml.feed.texts import Texts
from ml.feed.token_ids import TokenIds
from ml.recipe import Data, Stage
from pipelines.errors import UsageError
from pipelines.figures.templates import built_in_templates, template

TEXTS = {"captions": ("text",), "vqa": ("question", "answer")}
"""Text columns by what a stage reads; templates call them by the names of their placeholders."""
_READY = 2  # steps that wait for the training
STEPS_HELD = 1 + _READY + 1 + AHEAD + 1
"""Steps whose pixels a rank has at most: at work, ready, waiting to be, being decoded, begun."""
_READERS = 4


@dataclass(frozen=True)
class Step:
    """What a rank does between two updates of the weights.

    `number` counts from 1. `batches` are the rank's micro-batches, as many on each rank.
    `examples_after` counts the examples of the stage that all ranks have consumed when this step is
    done; `wait_seconds` is how long the training waited for it.
    """

    number: int
    batches: tuple[Batch, ...]
    examples_after: int
    wait_seconds: float = 0.0


class Feed:
    """Steps of a stage for one rank of a world, from `start` examples on, to the stage's end.

    The sequence of global batches depends on the table's content, the seed and the global batch
    alone, so a run goes on with the next example in a world of any size. `part` is train, in
    random order for `steps`; or validation or test, in the table's order, once.

    Each rank's share of a global batch, and each micro-batch of it, differs by an example at most
    from the others. A rank that has no example left for a micro-batch gets one of a row that is
    not learnt, see `text_batch`: all ranks do the same number of micro-batches.

    `token_ids` are of the processor's tokenizer, and save tokenising the texts that they are of.

    Raises UsageError for a world larger than the global batch, a `start` between two batches, and
    a part without rows.
    """

    def __init__(
        self,
        table: PinnedTable,
        *,
        stage: Stage,
        data: Data,
        processor: Processor,
        seed: int,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        part: str = TRAIN,
        token_ids: TokenIds | None = None,
    ) -> None:
        if stage.global_batch < world:
            raise UsageError(
                f"stage {stage.name}: global_batch {stage.global_batch} is less than {world} "
                f"processes: make it larger or start fewer"
            )
        if start % stage.global_batch:
            raise UsageError(
                f"stage {stage.name}: {start} examples are no whole number of global batches of "
                f"{stage.global_batch}; global_batch must stay what it was"
            )
        self.table = table
        self._stage, self._processor = stage, processor
        self._rank, self._world, self._seed = rank, world, seed
        self._trains = part == TRAIN
        table.check_columns(["example_id", "image", *TEXTS[stage.data]])
        self._texts = Texts(
            template(built_in_templates(), stage.data, stage.template),
            processor,
            stage.max_tokens,
            token_ids,
        )
        self._index = index_of(table, data, part, stage.question_types)
        self.rows = len(self._index)
        self._first = start // stage.global_batch
        self.steps = self._steps()
        """Steps of the whole stage, those before `start` as well."""
        self.accumulation = accumulation(stage.global_batch, stage.micro_batch, world)
        """Micro-batches of each rank in each step."""

    def __iter__(self) -> Iterator[Step]:
        """The steps from `start` on. What went wrong in the thread is raised here."""
        ready: queue.Queue[Step | BaseException | None] = queue.Queue(_READY)
        stopping = threading.Event()
        thread = threading.Thread(
            target=self._work, args=(ready, stopping), daemon=True, name="feed"
        )
        thread.start()
        try:
            while True:
                began = time.perf_counter()
                made = ready.get()
                if made is None:
                    return
                if isinstance(made, BaseException):
                    raise made
                yield replace(made, wait_seconds=time.perf_counter() - began)
        finally:
            stopping.set()
            thread.join()

    def _steps(self) -> int:
        if not self._trains:
            return -(-self.rows // self._stage.global_batch)
        if self._stage.steps is not None:
            return self._stage.steps
        return max(1, (self._stage.epochs or 1) * self.rows // self._stage.global_batch)

    def _work(self, ready: queue.Queue[Any], stopping: threading.Event) -> None:
        readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        threads = _decoders(self._world)
        decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            made = self._made(readers, decoders, threads)
            for number, batches in enumerate(made, self._first + 1):
                after = number * self._stage.global_batch
                done = after if self._trains else min(after, self.rows)
                if not _put(ready, Step(number, batches, done), stopping):
                    return
            _put(ready, None, stopping)
        except BaseException as e:  # whatever it is, it is the training's to know
            _put(ready, e, stopping)
        finally:
            for pool in (readers, decoders):
                pool.shutdown(cancel_futures=True)

    def _made(
        self, readers: Executor, decoders: Executor, threads: int
    ) -> Iterator[tuple[Batch, ...]]:
        stage = self._stage
        examples = EncodedExamples(
            self.table,
            self._index,
            TEXTS[stage.data],
            readers,
            seed=self._seed,
            global_batch=stage.global_batch,
            rank=self._rank,
            world=self._world,
            shuffled=self._trains,
            closed_image_swap=stage.closed_image_swap if self._trains else 0.0,
        )
        decoding = Decoding(
            examples,
            stage,
            self._texts,
            self._processor,
            decoders,
            threads,
            self._seed,
            self.accumulation,
            stage.image_dropout if self._trains else 0.0,
        )
        return decoding.steps(self._first, self.steps)


def _put(ready: queue.Queue[Any], made: Any, stopping: threading.Event) -> bool:
    """Whether it was taken: not where the reader has gone."""
    while not stopping.is_set():
        try:
            ready.put(made, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def _decoders(world: int) -> int:
    """Threads for a rank: its part of the cores of its machine."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return max(1, usable_cores() // ranks_here)

"""Steps of training from a pinned table: read, decoded, tokenised and batched beside the training.

A thread makes the next steps while one is trained; images are decoded by a pool of threads, for
decoders let go of Python's lock. The only state is how many examples were consumed.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ml.batch import IGNORED, Batch
from ml.feed.examples import Examples
from ml.feed.order import Order, accumulation, micro_batches, share
from ml.feed.table import PinnedTable, index_of
from ml.recipe import Data, Stage
from pipelines.errors import DataRefused, UsageError
from pipelines.figures.templates import Template, built_in_templates, template

_STEPS_AHEAD = 3
_TEXTS = {"captions": ("text",), "vqa": ("question", "answer")}
_PLACEHOLDER = {"text": "caption"}
TRAIN, VALIDATION, TEST = "train", "validation", "test"


class Processor(Protocol):
    """What the feed asks of `ml.models.Processor`."""

    tokenizer: Any
    pad_id: int
    eos_id: int
    image_px: int

    def image(self, content: bytes | memoryview) -> Tensor:
        """float32 [3, side, side]; raises ValueError where it is no image."""


@dataclass(frozen=True)
class Step:
    """What a rank does between two updates of the weights.

    `batches` are its micro-batches, as many on each rank. `examples_after` counts the examples of
    the stage that all ranks have consumed when this step is done; `wait_seconds` is how long the
    training waited for it.
    """

    number: int
    batches: tuple[Batch, ...]
    examples_after: int
    wait_seconds: float = 0.0


def chosen_rows(data: Data, part: str) -> dict[str, Any]:
    """What columns of a gold table must hold for rows of a part, by the recipe's way to split."""
    if data.split_by != "fold":
        return {data.split_by: part}
    if part == VALIDATION:
        raise UsageError(
            "folds have no validation rows: leave out validate_every, or split by split"
        )
    if part == TEST:
        return {"fold": data.fold}
    return {"fold": lambda fold: fold != data.fold}


class Feed:
    """Steps of a stage for one rank of a world, from `start` examples on, endlessly or to the end.

    The sequence of global batches depends on the table's content, the seed and the global batch
    alone, so a run goes on with the next example in a world of any size. `part` is train, in
    random order for `steps`; or validation or test, in the table's order, once.
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
        texts = _TEXTS[stage.data]
        index = index_of(table, select=chosen_rows(data, part), texts=texts)
        self.rows = len(index)
        self._order = Order(index, seed, table.content_hash, stage.global_batch, self._trains)
        self._examples = Examples(table, index, ("example_id", "image", *texts))
        self._template = template(built_in_templates(), stage.data, stage.template)
        self._first = start // stage.global_batch
        self.steps = self._steps()
        """Steps of the whole stage, those before `start` as well."""
        self.accumulation = accumulation(-(-stage.global_batch // world), stage.micro_batch)
        """Micro-batches of each rank in each step."""
        self._stopping = threading.Event()

    def __iter__(self) -> Iterator[Step]:
        """The steps from `start` on. What went wrong in the thread is raised here."""
        ready: queue.Queue[Step | BaseException | None] = queue.Queue(_STEPS_AHEAD)
        self._stopping.clear()
        thread = threading.Thread(target=self._work, args=(ready,), daemon=True, name="feed")
        thread.start()
        try:
            while True:
                began = time.perf_counter()
                made = ready.get()
                if made is None:
                    return
                if isinstance(made, BaseException):
                    raise made
                waited = time.perf_counter() - began
                yield Step(made.number, made.batches, made.examples_after, waited)
        finally:
            self._stopping.set()
            while not ready.empty():
                ready.get_nowait()
            thread.join()

    def _steps(self) -> int:
        if not self._trains:
            return -(-self.rows // self._stage.global_batch)
        if self._stage.steps is not None:
            return self._stage.steps
        return max(1, (self._stage.epochs or 1) * self.rows // self._stage.global_batch)

    def _work(self, ready: queue.Queue[Step | BaseException | None]) -> None:
        try:
            workers = max(1, len(os.sched_getaffinity(0)) // self._world)
            with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
                for number in range(self._first, self.steps):
                    step = self._step(number, pool.map)
                    if not self._put(ready, step):
                        return
            self._put(ready, None)
        except BaseException as e:  # whatever it is, it is the training's to know
            self._put(ready, e)

    def _put(self, ready: queue.Queue[Any], made: Any) -> bool:
        """Whether it was taken: not where the reader has gone."""
        while not self._stopping.is_set():
            try:
                ready.put(made, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _step(self, number: int, each: Callable[..., Iterator[Any]]) -> Step:
        size = self._stage.global_batch
        rows, epochs = self._order.batch(number)
        if not self._trains:  # the last is what is left
            kept = min(size, self.rows - number * size)
            rows, epochs = rows[:kept], epochs[:kept]
        mine = share(rows, self._order.index.group, self._rank, self._world)
        self._examples.keep_only(self._order.nearby(number))
        read = self._examples.read(rows[mine])
        prepared = list(each(self._prepared, rows[mine], epochs[mine], read))
        cuts = micro_batches(np.arange(len(mine)), size, self._stage.micro_batch, self._world)
        batches = tuple(self._batch([prepared[i] for i in cut]) for cut in cuts)
        return Step(number + 1, batches, (number + 1) * size)

    def _prepared(self, row: int, epoch: int, values: Sequence[Any]) -> _Prepared:
        example_id, content, *texts = values
        pixels = None
        if content is not None and not self._is_dropped(example_id, epoch):
            try:
                pixels = self._processor.image(content)
            except ValueError as e:
                raise DataRefused(
                    f"{self._examples.place_of(row)}: the image of example {example_id} cannot be "
                    f"decoded: {e}; prepare_captions --anew makes the table again"
                ) from e
        names = (_PLACEHOLDER.get(name, name) for name in _TEXTS[self._stage.data])
        fields = dict(zip(names, texts, strict=True))
        return _Prepared(example_id, pixels, *self._tokens(fields))

    def _is_dropped(self, example_id: int, epoch: int) -> bool:
        """Whether training withholds the image this time."""
        if not self._trains or not self._stage.image_dropout:
            return False
        digest = hashlib.blake2b(f"{self._seed}:{epoch}:{example_id}".encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "big") < self._stage.image_dropout * 2**64

    def _tokens(self, fields: Mapping[str, str]) -> tuple[list[int], int]:
        return tokens_of(self._template, fields, self._processor, self._stage.max_tokens)

    def _batch(self, examples: Sequence[_Prepared]) -> Batch:
        return batch_of(examples, self._processor)


@dataclass(frozen=True)
class _Prepared:
    """An example: token ids, of which the first `prompt_tokens` are not learnt."""

    example_id: int
    pixels: Tensor | None
    ids: list[int]
    prompt_tokens: int


def tokens_of(
    prompts: Template, fields: Mapping[str, str], processor: Processor, max_tokens: int
) -> tuple[list[int], int]:
    """Token ids of an example and how many of them are the prompt's.

    Prompt, answer and the end of text. What is too long loses the end of its answer, and its end
    of text with it, so that no text is learnt to end where it does not; a prompt that leaves no
    room for half of `max_tokens` of the answer loses its beginning.
    """
    prompt, answer = prompts.texts(fields)
    encode = processor.tokenizer.encode
    # A model needs one token to begin with, even where there is no prompt.
    asked = encode(prompt, add_special_tokens=False) if prompt else []
    asked = asked or [processor.eos_id]
    told = [*encode(answer, add_special_tokens=False), processor.eos_id]
    room = max(max_tokens - len(told), max_tokens // 2)
    asked = asked[-room:]
    return (asked + told)[:max_tokens], len(asked)


def batch_of(examples: Sequence[_Prepared], processor: Processor) -> Batch:
    """Examples side by side, padded on the right to the longest. There may be none of them."""
    count = len(examples)
    longest = max((len(e.ids) for e in examples), default=2)
    input_ids = torch.full((count, longest), processor.pad_id, dtype=torch.int64)
    labels = torch.full((count, longest), IGNORED, dtype=torch.int64)
    attention = torch.zeros((count, longest), dtype=torch.bool)
    side = processor.image_px
    pixels = torch.zeros((count, 3, side, side))
    has_image = torch.zeros(count, dtype=torch.bool)
    for i, example in enumerate(examples):
        ids = torch.tensor(example.ids, dtype=torch.int64)
        input_ids[i, : len(ids)] = ids
        labels[i, example.prompt_tokens : len(ids)] = ids[example.prompt_tokens :]
        attention[i, : len(ids)] = True
        if example.pixels is not None:
            pixels[i] = example.pixels
            has_image[i] = True
    ids_of = tuple(e.example_id for e in examples)
    return Batch(ids_of, pixels, has_image, input_ids, attention, labels)

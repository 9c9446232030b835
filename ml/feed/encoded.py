"""A rank's examples, step by step, as they are stored: images encoded, texts as text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from ml.feed.examples import Examples
from ml.feed.index import Index
from ml.feed.order import CHUNK_BATCHES, Order, share
from ml.feed.table import PinnedTable

_READ_AHEAD = CHUNK_BATCHES  # steps whose row groups are being read


@dataclass(frozen=True, eq=False)
class Encoded:
    """A rank's part of global batch `number`, from 0.

    `rows` are positions in the index, `epochs` counts how often each example was taken before,
    `texts` has the text columns of each, `images` the bytes of its image file, None where it has
    none.
    """

    number: int
    rows: Sequence[int]
    epochs: Sequence[int]
    example_ids: Sequence[int]
    texts: Sequence[tuple[str, ...]]
    images: Sequence[memoryview | None]


class EncodedExamples:
    """Reads a rank's part of each global batch, with `readers` ahead of what is asked for.

    Texts of all ranks' rows are read, for batches are made by length; images of the rank's own.
    Without `shuffled` rows come in the table's order, once.
    """

    def __init__(
        self,
        table: PinnedTable,
        index: Index,
        text_columns: Sequence[str],
        readers: Executor,
        *,
        seed: int,
        global_batch: int,
        rank: int = 0,
        world: int = 1,
        shuffled: bool = True,
    ) -> None:
        self._index, self._rank, self._world = index, rank, world
        self._texts = Examples(table, index, ("example_id", *text_columns), readers)
        self._images = Examples(table, index, ("image",), readers)
        self._order = Order(
            index,
            seed,
            table.content_hash,
            global_batch,
            (lambda rows: self._texts.lengths(rows, text_columns)) if shuffled else None,
        )

    def read(self, first: int, last: int) -> Iterator[Encoded]:
        """The steps from `first` up to and without `last`. Raises UsageError as Examples does."""
        asked: deque[tuple[np.ndarray, np.ndarray]] = deque()
        for number in range(first, last):
            ahead = min(number + _READ_AHEAD, last - 1)
            while number + len(asked) <= ahead:
                asked.append(self._mine(number + len(asked)))
                self._images.prefetch(asked[-1][0])
            near = self._order.groups_near(number) | self._order.groups_near(ahead)
            self._texts.keep_only(near)
            self._images.keep_only(near)
            rows, epochs = asked.popleft()
            example_ids, *texts = self._texts.read(rows)
            (images,) = self._images.read(rows)
            yield Encoded(
                number,
                rows.tolist(),
                epochs.tolist(),
                example_ids,
                list(zip(*texts, strict=True)),
                images,
            )

    def place_of(self, row: int) -> str:
        """Where a row lies, for messages."""
        return self._images.place_of(row)

    def _mine(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rows, epochs = self._order.batch(number)
        mine = share(rows, self._index.group, self._rank, self._world)
        return rows[mine], epochs[mine]

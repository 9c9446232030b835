"""Which examples make which global batch: a function of the table, the seed and nothing else.

Row groups come in random order; some of them at a time, a window, are mixed row by row. That is as
good as a permutation of all rows where row groups are random samples of the table, as in tables
that are clustered by a hash; in any other it mixes as many row groups as a window has, 64 of those
that prepare_captions writes. A table that fits in one window is permuted as a whole.

Within a chunk of some batches of an epoch examples are put together by length, and the batches of
the chunk are then taken in random order. Lengths that differ by little are as one: sorted by the
exact length, a batch of short questions would be one question asked of many images, and a model
learns worse from a batch of one kind. Nothing here knows how many processes there are: each
takes a part of every global batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ml.feed.index import Index

ORDER = 1
"""Of what this module does: a checkpoint has it, and a run goes on with the same one alone. To be
raised with every change of which examples make a batch, or which images they are shown with."""

WINDOW_BYTES = 512 << 20
"""What a process holds of row groups, but for the images of local tables that are not compressed:
this, or twice as much where two meet."""
LEAST_GROUPS = 4
"""Row groups in a window, however large they are."""
CHUNK_BATCHES = 16
SHORT_BYTES = 64
"""Texts up to here, some 16 tokens, are all as one: padding them is cheap."""
CLASS_RATIO = 1.25
"""Of the longest text of a class of lengths to that of the class before."""
# Products: logarithms differ in their last bit between processors, and ranks must agree.
_CLASS_ENDS = np.cumprod([SHORT_BYTES, *[CLASS_RATIO] * 80])  # up to a few GiB


@dataclass(frozen=True, eq=False)
class Order:
    """The endless sequence of global batches of `global_batch` examples each.

    `seed` and `content_hash` fix it. Epochs follow one another without a gap: a batch may hold the
    last examples of one and the first of the next. `lengths` says of rows how long their texts are.

    Without `lengths` rows come once, as they are in the index; the last batch is what is left.
    """

    index: Index
    seed: int
    content_hash: str
    global_batch: int
    lengths: Callable[[np.ndarray], np.ndarray] | None = None

    def batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `number`, from 0: rows of the index, and the epoch of each."""
        first, last = self._chunk_of(number)
        rows, epochs = self._chunk(first, last)
        at = slice((number - first) * self.global_batch, (number - first + 1) * self.global_batch)
        return rows[at], epochs[at]

    def groups_near(self, number: int) -> frozenset[int]:
        """The row groups that this batch and those about it come from."""
        return self._groups_of(*self._chunk_of(number))

    def _chunk_of(self, number: int) -> tuple[int, int]:
        """The first batch of the chunk that a batch is in, and the one after its last.

        A batch that holds examples of two epochs is a chunk of its own: in all others an epoch's
        examples are among themselves, and none comes twice before each has come once.
        """
        count, size = len(self.index), self.global_batch
        epoch = number * size // count
        if (number + 1) * size > (epoch + 1) * count:
            return number, number + 1
        begin = math.ceil(epoch * count / size)
        first = number - (number - begin) % CHUNK_BATCHES
        return first, min(first + CHUNK_BATCHES, (epoch + 1) * count // size)

    @lru_cache(maxsize=4)  # noqa: B019 (an order lives as long as its feed)
    def _chunk(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        rows, epochs = self._stretch(first * self.global_batch, last * self.global_batch)
        if self.lengths is not None:
            by_length = np.argsort(length_class(self.lengths(rows)), kind="stable")
            batches = by_length.reshape(last - first, self.global_batch)
            order = self._random("batches", first).permutation(batches).ravel()
            rows, epochs = rows[order], epochs[order]
        return rows, epochs

    @lru_cache(maxsize=4)  # noqa: B019
    def _groups_of(self, first: int, last: int) -> frozenset[int]:
        rows, epochs = self._chunk(first, last)
        found: set[int] = set()
        for epoch in np.unique(epochs).tolist():
            groups = np.unique(self.index.group[rows[epochs == epoch]])
            if self.lengths is not None:
                _, window_of = self._epoch(epoch)
                groups = np.flatnonzero(np.isin(window_of, np.unique(window_of[groups])))
            found.update(groups.tolist())
        return frozenset(found)

    def _stretch(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Examples `start` to `stop` of the sequence over all epochs."""
        count = len(self.index)
        if self.lengths is None:
            stop = min(stop, count)
        rows, epochs = [], []
        for epoch in range(start // count, -(-stop // count)):
            first = max(start - epoch * count, 0)
            last = min(stop - epoch * count, count)
            rows.append(self._epoch(epoch)[0][first:last])
            epochs.append(np.full(last - first, epoch, np.int64))
        return np.concatenate(rows), np.concatenate(epochs)

    @lru_cache(maxsize=2)  # noqa: B019
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """All rows of the index in the order of an epoch; and the window of each row group."""
        window_of = np.full(len(self.index.groups), -1)
        if self.lengths is None:
            return np.arange(len(self.index)), window_of
        random = self._random("epoch", epoch)
        groups = random.permutation(np.unique(self.index.group))
        size = self.index.group_bytes[groups]
        windows = min(round(size.sum() / WINDOW_BYTES), len(groups) // LEAST_GROUPS)
        middle = np.cumsum(size) - size / 2
        window_of[groups] = (middle * max(windows, 1) / size.sum()).astype(np.int64)
        # By window, and at random within it.
        order = np.lexsort((random.random(len(self.index)), window_of[self.index.group]))
        return order, window_of

    def _random(self, what: str, number: int) -> np.random.Generator:
        words = f"{what}:{number}:{self.content_hash}".encode()
        return np.random.default_rng([self.seed, *words])


def length_class(text_bytes: np.ndarray) -> np.ndarray:
    """Which texts are batched as if they were of one length: 0 for the short, and so on."""
    return np.searchsorted(_CLASS_ENDS, text_bytes)


def share(rows: np.ndarray, group: np.ndarray, rank: int, world: int) -> np.ndarray:
    """The positions in a global batch that a rank takes; sizes differ by 1 at most.

    Neighbours by row group go to one rank: so each reads few of the row groups, and not all.
    """
    by_group = np.argsort(group[rows], kind="stable")
    return np.sort(np.array_split(by_group, world)[rank])


def accumulation(global_batch: int, micro_batch: int, world: int) -> int:
    """Micro-batches that each rank does before a step of the optimiser."""
    return math.ceil(math.ceil(global_batch / world) / micro_batch)

"""Which examples make which global batch: a function of the table, the seed and nothing else.

Row groups come in random order; some of them at a time, a window, are mixed row by row. That is as
good as a permutation of all rows where a row group is a random sample of the table, as in tables
that are clustered by a hash, and mixes as many row groups as a window has in any other.

Within a chunk of some batches examples are put together by length, and the batches of the chunk
are then taken in random order. Nothing here knows how many processes there are: each takes a part
of every global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ml.feed.table import Index

WINDOW_GROUPS = 16
CHUNK_BATCHES = 16


@dataclass(frozen=True, eq=False)
class Order:
    """The endless sequence of global batches of `global_batch` examples each.

    `seed` and `content_hash` fix it. Epochs follow one another without a gap: a batch may hold the
    last examples of one and the first of the next.
    """

    index: Index
    seed: int
    content_hash: str
    global_batch: int
    shuffled: bool = True

    def batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `number`, from 0: rows of the index, and the epoch of each."""
        chunk, within = divmod(number, CHUNK_BATCHES)
        rows, epochs = self._chunk(chunk)
        at = slice(within * self.global_batch, (within + 1) * self.global_batch)
        return rows[at], epochs[at]

    def nearby(self, number: int) -> np.ndarray:
        """Rows of the chunk that a batch is in: what is worth keeping in memory."""
        return self._chunk(number // CHUNK_BATCHES)[0]

    @lru_cache(maxsize=2)  # noqa: B019 (an order lives as long as its feed)
    def _chunk(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        size = self.global_batch * CHUNK_BATCHES
        rows, epochs = self._stretch(number * size, (number + 1) * size)
        if self.shuffled:
            by_length = np.argsort(self.index.length[rows], kind="stable")
            batches = by_length.reshape(CHUNK_BATCHES, self.global_batch)
            order = self._random("batches", number).permutation(batches).ravel()
            rows, epochs = rows[order], epochs[order]
        return rows, epochs

    def _stretch(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Examples `start` to `stop` of the sequence over all epochs."""
        count = len(self.index)
        rows, epochs = [], []
        for epoch in range(start // count, -(-stop // count)):
            first = max(start - epoch * count, 0)
            last = min(stop - epoch * count, count)
            rows.append(self._epoch(epoch)[first:last])
            epochs.append(np.full(last - first, epoch, np.int64))
        return np.concatenate(rows), np.concatenate(epochs)

    @lru_cache(maxsize=2)  # noqa: B019
    def _epoch(self, epoch: int) -> np.ndarray:
        """All rows of the index in the order of an epoch."""
        if not self.shuffled:
            return np.arange(len(self.index))
        random = self._random("epoch", epoch)
        groups = random.permutation(np.unique(self.index.group))
        window_of = np.zeros(len(self.index.groups), np.int64)
        window_of[groups] = np.arange(len(groups)) // WINDOW_GROUPS
        # By window, and at random within it.
        return np.lexsort((random.random(len(self.index)), window_of[self.index.group]))

    def _random(self, what: str, number: int) -> np.random.Generator:
        words = f"{what}:{number}:{self.content_hash}".encode()
        return np.random.default_rng([self.seed, *words])


def share(rows: np.ndarray, group: np.ndarray, rank: int, world: int) -> np.ndarray:
    """The positions in a global batch that a rank takes.

    Neighbours by row group go to one rank: so each reads its part of the row groups, and not all.
    """
    by_group = np.argsort(group[rows], kind="stable")
    return np.sort(np.array_split(by_group, world)[rank])


def micro_batches(
    positions: np.ndarray, global_batch: int, micro_batch: int, world: int
) -> Sequence[np.ndarray]:
    """A rank's positions cut into micro-batches, as many on each rank, whose sizes differ by 1."""
    largest = -(-global_batch // world)
    return np.array_split(positions, accumulation(largest, micro_batch))


def accumulation(largest_share: int, micro_batch: int) -> int:
    """Micro-batches that a rank does before each step of the optimiser."""
    return -(-largest_share // micro_batch)

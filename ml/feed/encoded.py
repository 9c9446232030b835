"""A rank's examples, step by step, as they are stored: images encoded, texts as text."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import SupportsBytes

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
    `texts` has the text columns of each, `images` what `bytes` makes the image file of that goes
    with it, None where there is none: it may be read only then, and raises UsageError as `read`.
    That is the image of row `image_rows`, as a rule its own.
    """

    number: int
    rows: Sequence[int]
    epochs: Sequence[int]
    example_ids: Sequence[int]
    texts: Sequence[tuple[str, ...]]
    image_rows: Sequence[int]
    images: Sequence[SupportsBytes | None]


def chance(*about: object) -> float:
    """A number from 0 up to 1, by chance but always the same of the same."""
    digest = hashlib.blake2b(":".join(map(str, about)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # as many bits as a float has


@dataclass(frozen=True, eq=False)
class _Share:
    """The `places` of a global batch's rows that a rank takes."""

    batch: np.ndarray
    places: np.ndarray
    epochs: np.ndarray  # of the rank's rows

    @property
    def rows(self) -> np.ndarray:
        return self.batch[self.places]


class EncodedExamples:
    """Reads a rank's part of each global batch, with `readers` ahead of what is asked for.

    Texts of all ranks' rows are read, for batches are made by length; images of the rank's own.
    Without `shuffled` rows come in the table's order, once.

    Of closed questions, which a table of `vqa` has, the share `closed_image_swap` is shown with the
    image of another example of its global batch: which, `seed`, epoch and example say. Row groups
    of all ranks' images are read then.
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
        closed_image_swap: float = 0.0,
    ) -> None:
        self._index, self._rank, self._world = index, rank, world
        self._seed, self._swap = seed, closed_image_swap
        closed = ("closed",) if closed_image_swap else ()
        self._texts = Examples(table, index, ("example_id", *text_columns, *closed), readers)
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
        asked: deque[_Share] = deque()
        for number in range(first, last):
            ahead = min(number + _READ_AHEAD, last - 1)
            while number + len(asked) <= ahead:
                asked.append(self._share(number + len(asked)))
                self._images.prefetch(asked[-1].batch if self._swap else asked[-1].rows)
            near = self._order.groups_near(number) | self._order.groups_near(ahead)
            self._texts.keep_only(near)
            self._images.keep_only(near)
            mine = asked.popleft()
            example_ids, *texts = self._texts.read(mine.rows)
            image_rows = mine.rows
            if self._swap:
                image_rows = self._swapped(mine, example_ids, closed=texts.pop())
            (images,) = self._images.read(image_rows)
            yield Encoded(
                number,
                mine.rows.tolist(),
                mine.epochs.tolist(),
                example_ids,
                list(zip(*texts, strict=True)),
                image_rows.tolist(),
                images,
            )

    def place_of(self, row: int) -> str:
        """Where a row lies, for messages."""
        return self._images.place_of(row)

    def _share(self, number: int) -> _Share:
        batch, epochs = self._order.batch(number)
        places = share(batch, self._index.group, self._rank, self._world)
        return _Share(batch, places, epochs[places])

    def _swapped(
        self, mine: _Share, example_ids: Sequence[int], closed: Sequence[bool]
    ) -> np.ndarray:
        """The rows whose images are shown."""
        shown, others = mine.rows.copy(), len(mine.batch) - 1
        of_each = zip(example_ids, mine.epochs.tolist(), mine.places.tolist(), closed, strict=True)
        for i, (example, epoch, place, is_closed) in enumerate(of_each):
            if is_closed and chance(self._seed, epoch, example, "swap") < self._swap:
                further = int(chance(self._seed, epoch, example, "other") * others) + 1
                shown[i] = mine.batch[(place + further) % len(mine.batch)]
        return shown

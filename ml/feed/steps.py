"""A rank's examples become its micro-batches: images decoded, texts tokenised, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ml.batch import Batch, empty_pixels, squares
from ml.feed.batches import Processor, text_batch
from ml.feed.encoded import Encoded, EncodedExamples, chance
from ml.feed.texts import Texts
from ml.recipe import Stage
from pipelines.errors import DataRefused
from pipelines.figures.templates import PLACEHOLDERS

AHEAD = 2  # steps whose images are being decoded
_MOST_AT_ONCE = 8
"""Images that a thread decodes before it says so: each time, other threads are woken, and where
they are woken two may share a core while one has none."""


@dataclass(frozen=True, eq=False)
class _Begun:
    """A micro-batch of which threads still decode the images, into `pixels`, and the texts."""

    example_ids: list[int]
    tokens: Future[list[tuple[list[int], int]]]
    pixels: Tensor
    has_image: Tensor
    images: list[Future[None]]

    def finished(self, pad_id: int) -> Batch:
        for image in self.images:
            image.result()
        return text_batch(
            self.example_ids, self.tokens.result(), self.pixels, self.has_image, pad_id
        )


@dataclass(frozen=True, eq=False)
class Decoding:
    """Makes micro-batches of encoded examples with `decoders`, which has so many `threads`.

    `image_dropout` is the share of images that are withheld: which, `seed`, epoch and example say.
    """

    examples: EncodedExamples
    stage: Stage
    texts: Texts
    processor: Processor
    decoders: Executor
    threads: int
    seed: int
    accumulation: int
    image_dropout: float

    def steps(self, first: int, last: int) -> Iterator[tuple[Batch, ...]]:
        """The micro-batches of each step; raises DataRefused for an image that is none."""
        begun: deque[list[_Begun]] = deque()
        for encoded in self.examples.read(first, last):
            begun.append(self._begin(encoded))
            if len(begun) > AHEAD:
                yield self._finished(begun.popleft())
        while begun:
            yield self._finished(begun.popleft())

    def _finished(self, step: list[_Begun]) -> tuple[Batch, ...]:
        return tuple(batch.finished(self.processor.pad_id) for batch in step)

    def _begin(self, encoded: Encoded) -> list[_Begun]:
        cuts = np.array_split(np.arange(len(encoded.rows)), self.accumulation)
        return [self._begin_batch(encoded, cut.tolist()) for cut in cuts]

    def _begin_batch(self, encoded: Encoded, cut: list[int]) -> _Begun:
        side = self.processor.image_px
        pixels = empty_pixels(max(len(cut), 1), side)
        has_image = np.full(len(pixels), bool(cut))
        # As arrays: an operation of torch lets go of Python's lock, and waits for it again.
        drawn = squares(pixels)
        places: list[tuple[int, np.ndarray]] = []
        if not cut:
            drawn.fill(0)
        for place, i in enumerate(cut):
            shown = encoded.images[i] is not None
            if shown and not self._withheld(encoded.example_ids[i], encoded.epochs[i]):
                places.append((i, drawn[place]))
            else:
                drawn[place] = 0
                has_image[place] = False
        at_once = min(max(len(places) // self.threads, 1), _MOST_AT_ONCE)
        images = [
            self.decoders.submit(self._decode, encoded, places[at : at + at_once])
            for at in range(0, len(places), at_once)
        ]
        names = PLACEHOLDERS[self.stage.data]
        fields = [dict(zip(names, encoded.texts[i], strict=True)) for i in cut]
        example_ids = [encoded.example_ids[i] for i in cut]
        tokens = self.decoders.submit(self.texts.tokens, example_ids, fields)
        return _Begun(example_ids, tokens, pixels, torch.from_numpy(has_image), images)

    def _decode(self, encoded: Encoded, places: Sequence[tuple[int, np.ndarray]]) -> None:
        for i, square in places:
            image = encoded.images[i]
            assert image is not None
            content = bytes(image)
            try:
                self.processor.draw(content, square)
            except (ValueError, OSError) as e:
                raise DataRefused(
                    f"{self.examples.place_of(encoded.image_rows[i])}: the image cannot be "
                    f"decoded: {e}; prepare_captions --anew makes the table again"
                ) from e

    def _withheld(self, example_id: int, epoch: int) -> bool:
        if not self.image_dropout:  # most stages: nothing to draw for each example
            return False
        return chance(self.seed, epoch, example_id) < self.image_dropout

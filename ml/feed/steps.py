"""A rank's examples become its micro-batches: images decoded, texts tokenised, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ml.batch import Batch, empty_pixels
from ml.feed.batches import Processor, text_batch
from ml.feed.encoded import Encoded, EncodedExamples, chance
from ml.feed.texts import Texts
from ml.recipe import Stage
from pipelines.errors import DataRefused
from pipelines.figures.templates import PLACEHOLDERS

AHEAD = 2  # steps whose images are being decoded


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
    """Makes micro-batches of encoded examples with the threads of `decoders`.

    `image_dropout` is the share of images that are withheld: which, `seed`, epoch and example say.
    """

    examples: EncodedExamples
    stage: Stage
    texts: Texts
    processor: Processor
    decoders: Executor
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
        has_image = torch.zeros(len(pixels), dtype=torch.bool)
        images = []
        if not cut:
            pixels.zero_()
        for place, i in enumerate(cut):
            content = encoded.images[i]
            if content is None or self._withheld(encoded.example_ids[i], encoded.epochs[i]):
                pixels[place].zero_()
                continue
            has_image[place] = True
            into = pixels[place]
            images.append(self.decoders.submit(self._decode, encoded, i, content, into))
        names = PLACEHOLDERS[self.stage.data]
        fields = [dict(zip(names, encoded.texts[i], strict=True)) for i in cut]
        example_ids = [encoded.example_ids[i] for i in cut]
        tokens = self.decoders.submit(self.texts.tokens, example_ids, fields)
        return _Begun(example_ids, tokens, pixels, has_image, images)

    def _decode(self, encoded: Encoded, i: int, content: memoryview, into: Tensor) -> None:
        try:
            self.processor.draw(bytes(content), into)
        except (ValueError, OSError) as e:
            raise DataRefused(
                f"{self.examples.place_of(encoded.image_rows[i])}: the image cannot be decoded: "
                f"{e}; prepare_captions --anew makes the table again"
            ) from e

    def _withheld(self, example_id: int, epoch: int) -> bool:
        if not self.image_dropout:  # most stages: nothing to draw for each example
            return False
        return chance(self.seed, epoch, example_id) < self.image_dropout

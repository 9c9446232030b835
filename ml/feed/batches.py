"""Examples become tensors: rows of token ids are padded, images lie beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ml.batch import IGNORED, Batch, empty_pixels

LEAST_TOKENS = 2  # what an example, and so a batch, has


class Processor(Protocol):
    """What the feed asks of `ml.models.Processor`. It is called from several threads."""

    tokenizer: Any
    pad_id: int
    eos_id: int
    image_px: int

    def draw(self, content: bytes, square: np.ndarray) -> None:
        """An image file, into uint8 [side, side, 3]; raises ValueError where it is none."""


@dataclass(frozen=True)
class Prepared:
    """An example: token ids, of which the first `prompt_tokens` are not learnt."""

    example_id: int
    pixels: Tensor | None
    ids: list[int]
    prompt_tokens: int


def text_batch(
    example_ids: Sequence[int],
    tokens: Sequence[tuple[Sequence[int], int]],
    pixels: Tensor,
    has_image: Tensor,
    pad_id: int,
) -> Batch:
    """The batch of token ids and prompt lengths, padded on the right to the longest.

    There may be more pixels than texts: what is left are rows of nothing but padding tokens that
    are attended and not learnt, so that a model that is given no example has something to run on.
    """
    count = len(has_image)
    lengths = np.zeros(count, np.int64)
    lengths[: len(tokens)] = [len(ids) for ids, _ in tokens]
    prompts = np.zeros(count, np.int64)
    prompts[: len(tokens)] = [prompt_tokens for _, prompt_tokens in tokens]
    # All rows at once: steps of numpy and torch cost the same for a row as for a batch.
    place = np.arange(max(lengths.max(initial=0), LEAST_TOKENS))
    attention = place < lengths[:, None]
    input_ids = np.full(attention.shape, pad_id, np.int64)
    input_ids[attention] = list(chain.from_iterable(ids for ids, _ in tokens))
    labels = np.where(attention & (place >= prompts[:, None]), input_ids, IGNORED)
    attention[len(tokens) :] = True
    made = (torch.from_numpy(array) for array in (input_ids, attention, labels))
    return Batch(tuple(example_ids), pixels, has_image, *made)


def batch_of(examples: Sequence[Prepared], processor: Processor) -> Batch:
    """Examples side by side."""
    side = processor.image_px
    pixels = empty_pixels(len(examples), side).zero_()
    has_image = torch.zeros(len(examples), dtype=torch.bool)
    for i, example in enumerate(examples):
        if example.pixels is not None:
            pixels[i] = example.pixels
            has_image[i] = True
    return text_batch(
        [e.example_id for e in examples],
        [(e.ids, e.prompt_tokens) for e in examples],
        pixels,
        has_image,
        processor.pad_id,
    )

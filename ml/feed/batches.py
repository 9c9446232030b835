"""Examples become tensors: rows of token ids are padded, images lie beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ml.batch import IGNORED, Batch

LEAST_TOKENS = 2  # what an example, and so a batch, has


class Processor(Protocol):
    """What the feed asks of `ml.models.Processor`. It is called from several threads."""

    tokenizer: Any
    pad_id: int
    eos_id: int
    image_px: int

    def draw(self, content: bytes, into: Tensor) -> None:
        """An image file, into float32 [3, side, side]; raises ValueError where it is none."""


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
    longest = max((len(ids) for ids, _ in tokens), default=LEAST_TOKENS)
    input_ids = torch.full((count, longest), pad_id, dtype=torch.int64)
    labels = torch.full((count, longest), IGNORED, dtype=torch.int64)
    attention = torch.zeros((count, longest), dtype=torch.bool)
    for i, (ids, prompt_tokens) in enumerate(tokens):
        input_ids[i, : len(ids)] = row = torch.tensor(ids, dtype=torch.int64)
        labels[i, prompt_tokens : len(ids)] = row[prompt_tokens:]
        attention[i, : len(ids)] = True
    attention[len(tokens) :] = True
    return Batch(tuple(example_ids), pixels, has_image, input_ids, attention, labels)


def batch_of(examples: Sequence[Prepared], processor: Processor) -> Batch:
    """Examples side by side."""
    side = processor.image_px
    pixels = torch.zeros((len(examples), 3, side, side))
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

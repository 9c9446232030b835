"""Examples become tensors: texts are tokenised and cut, rows padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ml.batch import IGNORED, Batch
from pipelines.figures.templates import Template

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


def tokens_of(
    prompts: Template,
    examples: Sequence[Mapping[str, str]],
    processor: Processor,
    max_tokens: int,
) -> list[tuple[list[int], int]]:
    """Of each example its token ids, `max_tokens` at most, and how many of them are the prompt's.

    Prompt, answer and the end of text. What is too long loses the end of its answer, and its end
    of text with it, so that no text is learnt to end where it does not; a prompt that leaves no
    room for half of `max_tokens` of the answer loses its beginning.
    """
    if not examples:
        return []
    prompt, answer = zip(*(prompts.texts(fields) for fields in examples), strict=True)
    texts = [*prompt, *answer]
    # All at once: a call costs more than the texts do.
    ids = processor.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [
        _joined(asked, told, processor.eos_id, max_tokens)
        for asked, told in zip(ids[: len(examples)], ids[len(examples) :], strict=True)
    ]


def _joined(
    asked: list[int], told: list[int], eos_id: int, max_tokens: int
) -> tuple[list[int], int]:
    asked = asked or [eos_id]  # a model needs one token to begin with
    told = [*told, eos_id]
    room = max(max_tokens - len(told), max_tokens // 2)
    asked = asked[-room:]
    return (asked + told)[:max_tokens], len(asked)


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

"""A trained model in one process: questions with images in, answers and likelihoods out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ml.batch import IGNORED, Batch
from ml.feed.batches import Prepared, batch_of
from ml.models.export import load_model
from ml.models.processor import UnreadableImage
from ml.models.vision_language_model import Generated

MAX_ANSWER_TOKENS = 32
_MAX_TOKENS = 1024
"""Of a prompt, which loses its beginning, and of a text with its prompt, which loses its end."""

_KEPT_BYTES = 500_000_000
"""Half of it for features of images: each is asked about several times, a gray one all the time."""


class Answer(NamedTuple):
    """What a model said. `confidence` is the geometric mean of its tokens' probabilities."""

    text: str
    confidence: float


class Answerer:
    """The model of a folder, which answers greedily and says how likely texts are.

    The folder is an artefact's or an export's. Examples are put together by length, `batch_size`
    at a time; results come in the order given.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", batch_size: int = 16) -> None:
        self.model, self.processor, self.facts = load_model(folder, device=device)
        self.model.requires_grad_(False)
        self.model.keep_frozen_outputs(_KEPT_BYTES)
        self._device = device
        self._batch_size = batch_size

    def answers(self, images: Sequence[bytes | None], prompts: Sequence[str]) -> list[Answer]:
        """An answer to each prompt about its image; None: no image is shown.

        Raises UnreadableImage.
        """
        shown = [None if image is None else self.processor.image(image) for image in images]
        return self._answers(shown, prompts)

    def answers_or_reasons(
        self, images: Sequence[bytes], prompts: Sequence[str]
    ) -> list[Answer | str]:
        """The same; of an image that cannot be read the reason, a word, in place of an answer."""
        found: list[Answer | str] = []
        shown: dict[int, Tensor] = {}
        for place, image in enumerate(images):
            try:
                shown[place] = self.processor.image(image)
                found.append("")
            except UnreadableImage as e:
                found.append(e.reason)
        answers = self._answers(list(shown.values()), [prompts[place] for place in shown])
        for place, answer in zip(shown, answers, strict=True):
            found[place] = answer
        return found

    def _answers(self, images: Sequence[Tensor | None], prompts: Sequence[str]) -> list[Answer]:
        asked = [self._prompt(prompt) for prompt in prompts]
        said: dict[int, Answer] = {}
        for places in self._by_length(asked):
            batch = self._batch([(images[i], asked[i], []) for i in places])
            made = self.model.generate(batch, MAX_ANSWER_TOKENS)
            said |= zip(places, map(self._answer, made), strict=True)
        return [said[i] for i in range(len(asked))]

    def _answer(self, made: Generated) -> Answer:
        text = self.processor.tokenizer.decode(made.tokens, skip_special_tokens=True)
        # How sure a model is of an answer is also how sure it is that it ends there.
        tokens = min(len(made.tokens) + 1, MAX_ANSWER_TOKENS)
        return Answer(text.strip(), math.exp(made.log_likelihood / tokens))

    def likelihoods(
        self, images: Sequence[bytes | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> list[tuple[float, int]]:
        """Of each text after its prompt and image: log-likelihood in nats, and of how many tokens.

        The end of the text is one of them, as in training.
        """
        return self._sums(
            [
                (image, self._prompt(prompt), [*self._encoded(text), self.processor.eos_id])
                for image, prompt, text in zip(images, prompts, texts, strict=True)
            ]
        )

    def _encoded(self, text: str) -> list[int]:
        return self.processor.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _prompt(self, text: str) -> list[int]:
        """Tokens of a prompt: at least one, as the feed gives them to a model."""
        return self._encoded(text)[-(_MAX_TOKENS // 2) :] or [self.processor.eos_id]

    def _sums(
        self, examples: Sequence[tuple[bytes | Tensor | None, list[int], list[int]]]
    ) -> list[tuple[float, int]]:
        sums: list[tuple[float, int]] = [(0.0, 0)] * len(examples)
        for places in self._by_length([asked + told for _, asked, told in examples]):
            batch = self._batch([examples[i] for i in places])
            labels = batch.labels[:, 1:]
            with torch.inference_mode():
                losses = torch.nn.functional.cross_entropy(
                    self.model.logits(batch)[:, :-1].float().transpose(1, 2),
                    labels,
                    ignore_index=IGNORED,
                    reduction="none",
                )
            counts = (labels != IGNORED).sum(1).tolist()
            for i, loss, count in zip(places, losses.sum(1).tolist(), counts, strict=True):
                sums[i] = (-loss, count)
        return sums

    def _by_length(self, ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Places of the examples of each batch, of like length so that little is padding."""
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    def _batch(
        self, examples: Sequence[tuple[bytes | Tensor | None, list[int], list[int]]]
    ) -> Batch:
        """Image (a file, or its pixels), prompt and text of each: labels are the texts."""
        prepared = [
            Prepared(
                example_id=i,
                pixels=self.processor.image(image) if isinstance(image, bytes) else image,
                ids=(asked + told)[:_MAX_TOKENS],
                prompt_tokens=len(asked),
            )
            for i, (image, asked, told) in enumerate(examples)
        ]
        return batch_of(prepared, self.processor).to(self._device)


@lru_cache(maxsize=1)
def answerer(folder: str, stamp: str, batch_size: int, threads: int, device: str) -> Answerer:
    """The model of a folder, loaded once a process; a new `stamp` loads it anew.

    Several such processes on one machine must not fight for its cores: torch gets `threads`.
    """
    torch.set_num_threads(threads)
    return Answerer(folder, device, batch_size)

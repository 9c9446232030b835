"""A trained model in one process: questions with images in, answers and likelihoods out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from ml.batch import Batch
from ml.models.artefact import load_artefact

MAX_ANSWER_TOKENS = 32


class Answer(NamedTuple):
    """What a model said. `confidence` is the geometric mean of its tokens' probabilities."""

    text: str
    confidence: float


class Answerer:
    """The model of an artefact's folder, which answers greedily and says how likely texts are.

    Examples are put together by length, `batch_size` at a time; results come in the order given.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", batch_size: int = 16) -> None:
        self.model, self.processor, self.facts = load_artefact(Path(folder), device=device)
        self.model.eval()
        self.device = device
        self.batch_size = batch_size

    def answers(self, images: Sequence[bytes | None], prompts: Sequence[str]) -> list[Answer]:
        """An answer to each prompt about its image; None: no image is shown."""
        ids = [self._ids(prompt) for prompt in prompts]
        said: list[list[int]] = [[]] * len(ids)
        for places in self._by_length(ids):
            batch = self._batch([images[i] for i in places], [(ids[i], []) for i in places])
            with torch.inference_mode():
                found = self.model.generate(batch, MAX_ANSWER_TOKENS)
            for i, tokens in zip(places, found, strict=True):
                said[i] = self._until_end(tokens)
        # The end of an answer is part of what the model is sure or unsure of.
        ended = [[*t, self.processor.eos_id] if len(t) < MAX_ANSWER_TOKENS else t for t in said]
        sums = self._likelihoods(images, list(zip(ids, ended, strict=True)))
        texts = [self.processor.tokenizer.decode(t, skip_special_tokens=True) for t in said]
        return [
            Answer(text.strip(), math.exp(total / tokens) if tokens else 1.0)
            for text, (total, tokens) in zip(texts, sums, strict=True)
        ]

    def likelihoods(
        self, images: Sequence[bytes | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> list[tuple[float, int]]:
        """Of each text after its prompt and image: log-likelihood in nats, and of how many tokens.

        A text's first token counts only where something stands before it in the prompt, as in
        training.
        """
        pairs = [(self._ids(p), self._ids(t)) for p, t in zip(prompts, texts, strict=True)]
        return self._likelihoods(images, pairs)

    def _likelihoods(
        self, images: Sequence[bytes | None], pairs: Sequence[tuple[list[int], list[int]]]
    ) -> list[tuple[float, int]]:
        sums: list[tuple[float, int]] = [(0.0, 0)] * len(pairs)
        for places in self._by_length([p + t for p, t in pairs]):
            batch = self._batch([images[i] for i in places], [pairs[i] for i in places])
            with torch.inference_mode():
                logits = self.model.logits(batch)[:, :-1].float()
            labels = batch.labels[:, 1:]
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=-100, reduction="none"
            )
            counts = (labels != -100).sum(1).tolist()
            for i, loss, count in zip(places, losses.sum(1).tolist(), counts, strict=True):
                sums[i] = (-loss, count)
        return sums

    def _ids(self, text: str) -> list[int]:
        return list(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _until_end(self, tokens: list[int]) -> list[int]:
        end = self.processor.eos_id
        return tokens[: tokens.index(end)] if end in tokens else tokens

    def _by_length(self, ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Places of the examples of each batch, of like length so that little is padding."""
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def _batch(
        self, images: Sequence[bytes | None], pairs: Sequence[tuple[list[int], list[int]]]
    ) -> Batch:
        """Prompts and texts side by side, padded on the right; labels are the texts."""
        shown = {i: self.processor.image(x) for i, x in enumerate(images) if x is not None}
        side = self.processor.image_px
        blank = torch.zeros(3, side, side)
        padded = pad_sequence([torch.tensor(p + t) for p, t in pairs], True, self.processor.pad_id)
        lengths = torch.tensor([len(p) + len(t) for p, t in pairs])
        labels = [torch.tensor([-100] * len(p) + t) for p, t in pairs]
        return Batch(
            example_ids=list(range(len(pairs))),
            pixels=torch.stack([shown.get(i, blank) for i in range(len(pairs))]),
            has_image=torch.tensor([i in shown for i in range(len(pairs))]),
            input_ids=padded,
            attention_mask=torch.arange(padded.shape[1]) < lengths[:, None],
            labels=pad_sequence(labels, True, -100),
        ).to(self.device)


@lru_cache(maxsize=1)
def answerer(folder: str, stamp: str, batch_size: int, threads: int, device: str) -> Answerer:
    """The model of a folder, loaded once a process; a new `stamp` loads it anew.

    Several such processes on one machine must not fight for its cores: torch gets `threads`.
    """
    torch.set_num_threads(threads)
    return Answerer(folder, device, batch_size)

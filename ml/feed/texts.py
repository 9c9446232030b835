"""Texts of examples become token ids: looked up where they are known, tokenised otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ml.feed.batches import Processor
from ml.feed.token_ids import TokenIds
from pipelines.figures.templates import Template

_Ids = tuple[list[int], list[int]]  # of a prompt and of its answer


@dataclass(frozen=True)
class Texts:
    """Prompts and answers of a template as token ids, `max_tokens` at most.

    `known` are ids by the processor's tokenizer that are taken where they are of the same texts.
    """

    template: Template
    processor: Processor
    max_tokens: int
    known: TokenIds | None = None

    def tokens(
        self, example_ids: Sequence[int], examples: Sequence[Mapping[str, str]]
    ) -> list[tuple[list[int], int]]:
        """Of each example its token ids, and how many of them are the prompt's.

        Prompt, answer and the end of text. What is too long loses the end of its answer, and its
        end of text with it, so that no text is learnt to end where it does not; a prompt that
        leaves no room for half of `max_tokens` of the answer loses its beginning.
        """
        texts = [self.template.texts(fields) for fields in examples]
        found = self._known(example_ids, texts)
        missing = [both for both, ids in zip(texts, found, strict=True) if ids is None]
        tokenised = iter(self._tokenised(missing))
        return [self._joined(*(ids or next(tokenised))) for ids in found]

    def _known(
        self, example_ids: Sequence[int], texts: Sequence[tuple[str, str]]
    ) -> Sequence[_Ids | None]:
        if self.known is None:
            return [None] * len(texts)
        prompt = self._one_prompt
        if prompt is None:
            return self.known.of(example_ids, texts)
        found = self.known.of(example_ids, [("", answer) for _, answer in texts])
        return [ids and (prompt, ids[1]) for ids in found]

    @cached_property
    def _one_prompt(self) -> list[int] | None:
        """Ids of the prompt where it is the same for all examples."""
        prompt = self.template.one_prompt
        return None if prompt is None else self._tokenised([(prompt, "")])[0][0]

    def _tokenised(self, texts: Sequence[tuple[str, str]]) -> list[_Ids]:
        if not texts:
            return []
        prompts, answers = zip(*texts, strict=True)
        # All at once: a call costs more than the texts do.
        ids = self.processor.tokenizer(
            [*prompts, *answers], add_special_tokens=False, verbose=False
        )["input_ids"]
        return list(zip(ids[: len(texts)], ids[len(texts) :], strict=True))

    def _joined(self, asked: list[int], told: list[int]) -> tuple[list[int], int]:
        eos_id = self.processor.eos_id
        asked = asked or [eos_id]  # a model needs one token to begin with
        told = [*told, eos_id]
        room = max(self.max_tokens - len(told), self.max_tokens // 2)
        asked = asked[-room:]
        return (asked + told)[: self.max_tokens], len(asked)

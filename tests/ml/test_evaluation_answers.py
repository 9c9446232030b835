"""A model that sees: its answers, how sure it is of them, and how likely it finds texts."""

from __future__ import annotations

import math

import pytest
import torch

from ml.evaluation.answers import MAX_ANSWER_TOKENS, Answerer
from ml.feed.batches import Prepared, batch_of
from tests.ml.made_tables import square
from tests.ml.seeing import (
    QUESTIONS,
    answers,
    caption,
    save_seeing_model,
    seeing_recipe,
    shade,
)

_PROMPTS = [f"Question: {question}\nAnswer:" for question in QUESTIONS]


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    folder = tmp_path_factory.mktemp("seeing")
    save_seeing_model(folder / "model", seeing_recipe(folder))
    return Answerer(folder / "model", batch_size=3)


def test_it_answers_what_it_sees_whatever_the_batch(answerer: Answerer) -> None:
    numbers = [0, 3, 8, 21, 36]
    images = [square(shade(n)) for n in numbers for _ in QUESTIONS]
    said = answerer.answers(images, _PROMPTS * len(numbers))
    assert [a.text for a in said] == [text for n in numbers for text in answers(n)]
    alone = [answerer.answers([i], [p])[0] for i, p in zip(images, _PROMPTS * 5, strict=True)]
    assert [a.text for a in alone] == [a.text for a in said]
    assert [a.confidence for a in alone] == pytest.approx([a.confidence for a in said], abs=1e-4)


def test_an_image_is_encoded_once_however_often_it_is_asked_about(answerer: Answerer) -> None:
    encoded: list[int] = []
    handle = answerer.model.encoder.register_forward_hook(
        lambda _module, inputs, _output: encoded.append(len(inputs[0]))
    )
    try:
        for _ in range(2):
            answerer.answers([square(shade(n)) for n in (50, 51)] * 2, _PROMPTS[:1] * 4)
            answerer.likelihoods([square(shade(50))], _PROMPTS[:1], ["gray"])
    finally:
        handle.remove()
    # Three at a time: the last of four asks about an image of the first three.
    assert encoded == [3]


def test_without_an_image_all_answers_are_one_and_less_sure(answerer: Answerer) -> None:
    blind = answerer.answers([None, None], [_PROMPTS[0]] * 2)
    assert blind[0].text == blind[1].text
    seeing = answerer.answers([square(shade(0))], [_PROMPTS[0]])[0]
    assert blind[0].confidence < 0.9 < seeing.confidence <= 1


def test_a_likelihood_is_the_sum_over_the_text_and_its_end(answerer: Answerer) -> None:
    """Against the softmax at each place, one by one."""
    image, prompt, text = square(shade(1)), _PROMPTS[1], " light gray"
    ((total, tokens),) = answerer.likelihoods([image], [prompt], [text])
    processor = answerer.processor
    asked = processor.tokenizer.encode(prompt)
    told = [*processor.tokenizer.encode(text), processor.eos_id]
    assert tokens == len(told)
    by_hand = 0.0
    for k, token in enumerate(told):
        before = asked + told[:k]
        batch = batch_of([Prepared(0, processor.image(image), before, len(before))], processor)
        with torch.no_grad():
            by_hand += float(answerer.model.logits(batch)[0, -1].log_softmax(-1)[token])
    assert total == pytest.approx(by_hand, abs=1e-3)


def test_confidence_is_the_mean_likelihood_of_what_was_said(answerer: Answerer) -> None:
    image = square(shade(1))
    said = answerer.answers([image], [_PROMPTS[1]])[0]
    ((total, tokens),) = answerer.likelihoods([image], [_PROMPTS[1]], [f" {said.text}"])
    assert said.confidence == pytest.approx(math.exp(total / tokens), abs=1e-4)


def test_the_right_caption_is_the_likelier_one(answerer: Answerer) -> None:
    images = [square(shade(n)) for n in (2, 2, 5, 5)]
    texts = [caption(n) for n in (2, 5, 2, 5)]
    found = [total for total, _ in answerer.likelihoods(images, [""] * 4, texts)]
    assert found[0] > found[1]
    assert found[3] > found[2]


def test_a_prompt_of_any_length_has_an_answer(answerer: Answerer) -> None:
    said = answerer.answers([None, None], ["", "why? " * 3000])
    assert all(0 < a.confidence <= 1 for a in said)
    assert all(len(a.text) <= 20 * MAX_ANSWER_TOKENS for a in said)

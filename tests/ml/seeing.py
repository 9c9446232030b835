"""A model that has learnt to see: two questions about squares, bright or dark, in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ml import recipe
from ml.feed.batches import Prepared, batch_of
from ml.models import build
from ml.models.artefact import save_artefact
from ml.models.processor import processor_of
from tests.ml.made_tables import square
from tests.ml.tiny_models import tiny_model

QUESTIONS = ("Is the square bright?", "Which shade is it?")
_ANSWERS = (("No", "Yes"), ("dark gray", "light gray"))
SQUARES = 40
_PROMPT = "Question: {}\nAnswer:"  # the template question_answer
_CAPTION = "A {} square."


def shade(number: int) -> int:
    """Of square `number`, 0 to SQUARES: odd ones are bright."""
    return 150 + 2 * number if number % 2 else 2 * number


def answers(number: int) -> tuple[str, str]:
    """To QUESTIONS about the square of that number."""
    closed, opened = _ANSWERS
    return closed[number % 2], opened[number % 2]


def caption(number: int) -> str:
    return _CAPTION.format(answers(number)[1])


def seeing_recipe(folder: Path, **changes: Any) -> recipe.Recipe:
    """Its recipe, with a stage on captions and one on questions; parts are made in `folder`."""
    stage = {"template": "question_answer", "steps": 80, "global_batch": 16, "micro_batch": 16}
    return recipe.Recipe.model_validate(
        {
            "name": "seeing",
            "model": tiny_model(folder),
            "stages": (
                {"name": "align", "data": "captions", **stage, "template": "plain"},
                {"name": "instruct", "data": "vqa", **stage},
            ),
            **changes,
        }
    )


def save_seeing_model(folder: Path, made_by: recipe.Recipe) -> None:
    """Train it on squares from all shades, a quarter of the steps without images, and save it."""
    processor = processor_of(made_by.model)
    encode = processor.tokenizer.encode

    def prepared(number: int, prompt: str, text: str, *, with_image: bool) -> Prepared:
        asked = encode(prompt) if prompt else [processor.eos_id]
        pixels = processor.image(square(shade(number))) if with_image else None
        return Prepared(number, pixels, [*asked, *encode(text), processor.eos_id], len(asked))

    def examples(step: int) -> list[Prepared]:
        told = []
        for k in range(8):
            number, with_image = (5 * step + 3 * k) % SQUARES, step % 4 != 3
            asked = zip(QUESTIONS, answers(number), strict=True)
            texts = [(_PROMPT.format(q), f" {a}") for q, a in asked] + [("", caption(number))]
            told += [prepared(number, *text, with_image=with_image) for text in texts]
        return told

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = build(made_by.model).train()
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for step in range(60):
            batch = batch_of(examples(step), processor)
            optimizer.zero_grad()
            (model(batch) / batch.label_tokens).backward()
            optimizer.step()
    finally:
        torch.set_num_threads(threads)
    save_artefact(model, folder, recipe=made_by, facts={"checkpoint": "instruct-000060"})

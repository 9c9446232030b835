"""What is planned for: a model without memory, as one stage tunes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ml.memory.activations import Activations, activations, without_memory
from ml.memory.counts import Counts, counts_of
from ml.memory.states import Precision
from ml.recipe import Recipe, Stage


class Subject:
    """A model on the meta device and how it comes to a loss.

    `loss(model, micro_batch)` makes its own input. `checkpointing(model, on)` turns gradient
    checkpointing on or off. `groups` are the optimiser's, all trained parameters if not given;
    `parameters` in place of as many as the model has.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        precision: Precision,
        vocabulary: int,
        loss: Callable[[nn.Module, int], Tensor],
        checkpointing: Callable[[nn.Module, bool], None],
        groups: Iterable[Iterable[Tensor]] | None = None,
        parameters: int | None = None,
    ) -> None:
        counts = counts_of(model, groups)
        self.counts: Counts = counts.of_size(parameters) if parameters else counts
        self._fake = without_memory(model.train(), precision)
        self._model, self._loss, self._checkpointing = model, loss, checkpointing
        self._precision: Precision = precision
        self._vocabulary = vocabulary
        self._known: dict[tuple[int, bool, bool], Activations] = {}

    def activations(
        self, micro_batch: int, checkpointing: bool, *, zero_3: bool = False
    ) -> Activations:
        """Of one micro-batch, its size in examples; `zero_3`: under ZeRO's stage 3.

        Running a large model takes seconds even without memory, so more than three examples are
        counted on from two and three. One is not on that line: what is as long as the batch may be
        a view then.
        """
        if micro_batch <= 3:
            return self._counted(micro_batch, checkpointing, zero_3)
        two, three = (self._counted(size, checkpointing, zero_3) for size in (2, 3))
        return two.continued(three, micro_batch - 2)

    def _counted(self, micro_batch: int, checkpointing: bool, zero_3: bool) -> Activations:
        if not self.counts.frozen and self._precision != "bf16_autocast":
            zero_3 = False  # its linear function keeps the same then
        key = micro_batch, checkpointing, zero_3
        if key not in self._known:
            self._checkpointing(self._model, checkpointing)
            self._known[key] = activations(
                self._model,
                lambda: self._loss(self._model, micro_batch),
                precision=self._precision,
                vocabulary=self._vocabulary,
                fake=self._fake,
                zero_3=zero_3,
            )
        return self._known[key]


def bloom(parameters: int, *, tokens: int, precision: Precision) -> Subject:
    """A Bloom of about this many parameters (hidden size 128 times the layers), all trained.

    Its counts are scaled to the very number. Bloom's vocabulary is used, or a smaller one where
    embeddings would be most of the model.
    """
    from transformers import BloomConfig, BloomForCausalLM

    vocabulary = min(250_880, max(parameters // 4096, 1000))
    layers = 1
    while _bloom_parameters(layers + 1, vocabulary) <= parameters:
        layers += 1
    config = BloomConfig(
        vocab_size=vocabulary, hidden_size=128 * layers, n_layer=layers, n_head=layers
    )
    with torch.device("meta"):
        model = BloomForCausalLM(config)
    model.config.use_cache = False

    def loss(model: nn.Module, micro_batch: int) -> Tensor:
        ids = torch.zeros(micro_batch, tokens, dtype=torch.int64)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
        )

    return Subject(
        model,
        precision=precision,
        vocabulary=vocabulary,
        loss=loss,
        checkpointing=switch_checkpointing,
        parameters=parameters,
    )


def _bloom_parameters(layers: int, vocabulary: int) -> int:
    hidden = 128 * layers
    return 12 * layers * hidden**2 + vocabulary * hidden


def switch_checkpointing(model: nn.Module, on: bool) -> None:
    """Gradient checkpointing of a model of transformers."""
    if on:
        model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    else:
        model.activation_checkpointing_disable()  # type: ignore[operator]


def subject_of(recipe: Recipe, stage: Stage) -> Subject:
    """The model of a recipe as a stage tunes it. Every text token counts as one to be learnt.

    Raises UsageError where a part of the model is not there.
    """
    from ml.batch import Batch
    from ml.models import build
    from ml.models.tuning import parameter_groups, tune

    model = build(recipe.model, device="meta")
    tune(model, stage)
    side = recipe.model.encoder.image_px

    def loss(model: nn.Module, micro_batch: int) -> Tensor:
        ids = torch.zeros(micro_batch, stage.max_tokens, dtype=torch.int64)
        batch = Batch(
            example_ids=(0,) * micro_batch,
            pixels=torch.zeros(micro_batch, 3, side, side, dtype=torch.uint8),
            has_image=torch.ones(micro_batch, dtype=torch.bool),
            input_ids=ids,
            attention_mask=torch.ones_like(ids, dtype=torch.bool),
            labels=ids,
        )
        # The model's own forward pass picks the label tokens, and how many there are is no shape.
        logits = model.logits(batch)[:, :-1]  # type: ignore[operator]
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
        )

    return Subject(
        model,
        precision=stage.precision,
        vocabulary=model.llm.config.get_text_config().vocab_size,
        loss=loss,
        groups=[group["params"] for group in parameter_groups(model, stage)],
        checkpointing=lambda model, on: model.gradient_checkpointing(on),  # type: ignore[operator]
    )

"""An image encoder, a fusion and a causal language model as one module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from ml import recipe
from ml.batch import IGNORED, Batch
from ml.models.encoders import Encoder, build_encoder
from ml.models.fusions import Fusion, GatedCrossAttention, build_fusion
from ml.models.kept_outputs import KeptOutputs, key_of
from ml.models.language_models import (
    KNOWN_LAYERS,
    build_language_model,
    can_run_layers,
    embedded,
    embeddings_of,
    finished,
    layers_of,
    positions,
    run_layers,
)
from ml.models.processor import normalised, processor_of
from pipelines.errors import UsageError


class Generated(NamedTuple):
    """An answer as token ids, without the one that ends it.

    `log_likelihood` is of all of them in nats, of the one that ends it too; an answer of the
    greatest length has none.
    """

    tokens: list[int]
    log_likelihood: float


class VisionLanguageModel(nn.Module):
    """What a recipe's `[model]` describes; `build` makes one.

    Every module is called in every forward pass, in the same order on every rank, whether a batch
    has images or not: under ZeRO-3 ranks wait for each other at each module. An example without an
    image is as if the language model stood alone.
    """

    def __init__(
        self,
        encoder: Encoder,
        fusion: Fusion,
        llm: PreTrainedModel,
        *,
        enter_layer: int = 0,
        eos_id: int = -1,
        seed: int = 0,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.fusion = fusion
        self.llm = llm
        self.enter_layer = enter_layer
        self.eos_id = eos_id
        self.seed = seed
        self.mean, self.std = mean, std
        self._checkpointed = False
        self._features_kept: KeptOutputs | None = None
        self._texts_kept: KeptOutputs | None = None

    def keep_frozen_outputs(self, most_bytes: int) -> None:
        """Compute what is not trained once for each image and, in training, for each text.

        Of `most_bytes` of host memory the features of images and the states of texts have half
        each. Not under ZeRO-3, where all ranks have to call the same modules; nothing is kept of
        what is trained. To be called anew whenever what is trained has changed.
        """
        self._features_kept = self._texts_kept = None
        if not _is_trained(self.encoder):
            self._features_kept = KeptOutputs(most_bytes // 2)
        if self.enter_layer and not self._is_lower_trained():
            self._texts_kept = KeptOutputs(most_bytes // 2)

    def forward(self, batch: Batch) -> Tensor:
        """The sum over the label tokens of their cross-entropy in nats, float32, no dimensions.

        Logits are computed where there is a label and nowhere else: with 250 880 entries in a
        vocabulary they would be the largest tensor of all.
        """
        batch = batch if len(batch.input_ids) else _blank(batch)
        hidden = self._states(batch)[:, :-1]
        labels = batch.labels[:, 1:]
        learnt = labels != IGNORED
        logits = self.llm.get_output_embeddings()(hidden[learnt])
        return functional.cross_entropy(logits.float(), labels[learnt], reduction="sum")

    def logits(self, batch: Batch) -> Tensor:
        """[B, L, V]: at each text token, what the next one is."""
        return self.llm.get_output_embeddings()(self._states(batch))

    @torch.no_grad()
    def generate(self, batch: Batch, max_new_tokens: int) -> list[Generated]:
        """Greedy answers to prompts.

        `batch` holds prompts of one token or more, padded on either side.
        """
        ids, text = _left_padded(batch.input_ids, batch.attention_mask)
        features, has_image = self._features(batch.pixels), batch.has_image
        cache: Cache = DynamicCache()
        head = self.llm.get_output_embeddings()
        made: list[list[int]] = [[] for _ in range(len(ids))]
        sums = [0.0] * len(ids)
        rows = list(range(len(ids)))  # of the batch, those that are still told on
        for _ in range(max_new_tokens):
            hidden = self._text_states(ids, text, features, has_image, cache)
            likelihoods, best = head(hidden[:, -1]).float().log_softmax(-1).max(-1)
            kept: list[int] = []
            for i, (token, likelihood) in enumerate(
                zip(best.tolist(), likelihoods.tolist(), strict=True)
            ):
                sums[rows[i]] += likelihood
                if token != self.eos_id:
                    made[rows[i]].append(token)
                    kept.append(i)
            if not kept:
                break
            ids, text = best[:, None], functional.pad(text, (0, 1), value=True)
            if len(kept) < len(rows):  # most answers are far shorter than the longest
                at = torch.tensor(kept, device=ids.device)
                ids, text, features, has_image = ids[at], text[at], features[at], has_image[at]
                cache.batch_select_indices(at)
                rows = [rows[i] for i in kept]
        return [Generated(tokens, total) for tokens, total in zip(made, sums, strict=True)]

    def gradient_checkpointing(self, enable: bool) -> None:
        """Keep what enters each layer, and compute the rest again in the backward pass."""
        self._checkpointed = enable
        self.encoder.gradient_checkpointing(enable)
        if enable:
            self.llm.activation_checkpointing_enable({"use_reentrant": False})
        else:
            self.llm.activation_checkpointing_disable()

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """As of any module, but an encoder that is not trained has no dropout either."""
        super().train(mode)
        self.encoder.train(mode and _is_trained(self.encoder))
        return self

    def _states(self, batch: Batch) -> Tensor:
        features = self._features(batch.pixels)
        return self._text_states(batch.input_ids, batch.attention_mask, features, batch.has_image)

    def _features(self, pixels: Tensor) -> Tensor:
        """What the fusion reads: of image tokens the tokens themselves, else features."""
        if self._features_kept is not None:  # in training too, an encoder that is frozen is as is
            keys = [key_of(image) for image in pixels]
            rows = self._features_kept.of(
                keys, lambda missing: list(self._encoded(pixels[missing]))
            )
            features = torch.stack([row.to(pixels.device) for row in rows])
        else:
            features = self._encoded(pixels)
        return features if isinstance(self.fusion, GatedCrossAttention) else self.fusion(features)

    def _encoded(self, pixels: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and _is_trained(self.encoder)):
            images = normalised(pixels, self.mean, self.std)
            encoded: Tensor = self.encoder(images.to(next(self.encoder.parameters()).dtype))
            return encoded

    def _text_states(
        self,
        input_ids: Tensor,
        text: Tensor,
        image: Tensor,
        has_image: Tensor,
        cache: Cache | None = None,
    ) -> Tensor:
        """What the head reads at each of `input_ids` [B, L]: [B, L, H].

        `text` [B, K] says which text tokens are none of the padding; the last L of them are these,
        and the others, with the image tokens, are in the cache.
        """
        llm, length = self.llm, input_ids.shape[1]
        if isinstance(self.fusion, GatedCrossAttention):
            hidden = embedded(llm, input_ids)
            before = self._before(image, has_image)
            hidden = run_layers(
                llm, hidden, text, 0, len(layers_of(llm)), before=before, cache=cache
            )
            return finished(llm, hidden)
        keys = torch.cat([has_image[:, None].expand(-1, image.shape[1]), text], dim=1)
        is_first = text.shape[1] == length
        if not can_run_layers(llm.config):
            hidden = llm.get_input_embeddings()(input_ids)
            hidden = torch.cat([image.to(hidden.dtype), hidden], dim=1) if is_first else hidden
            return self._whole(hidden, keys, cache)[:, -length:]
        if self._texts_kept is not None and self.training and cache is None:
            hidden = self._kept_lower(input_ids, text, self._texts_kept)
        else:
            hidden = self._lower(input_ids, text, cache)
        if is_first:
            hidden = torch.cat([image.to(hidden.dtype), hidden], dim=1)
        hidden = run_layers(llm, hidden, keys, self.enter_layer, len(layers_of(llm)), cache=cache)
        return finished(llm, hidden[:, -length:])

    def _lower(self, input_ids: Tensor, text: Tensor, cache: Cache | None) -> Tensor:
        """Embeddings and the layers below the one where image tokens enter."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._is_lower_trained()):
            hidden = embedded(self.llm, input_ids)
            return run_layers(self.llm, hidden, text, 0, self.enter_layer, cache=cache)

    def _kept_lower(self, input_ids: Tensor, text: Tensor, kept: KeptOutputs) -> Tensor:
        """The same, text by text; zeros in the padding, which nobody looks at."""

        def compute(missing: list[int]) -> list[Tensor]:
            states = self._lower(input_ids[missing], text[missing], None)
            return [states[i, text[row]] for i, row in enumerate(missing)]

        keys = [key_of(ids[mask]) for ids, mask in zip(input_ids, text, strict=True)]
        rows = [row.to(input_ids.device) for row in kept.of(keys, compute)]
        hidden = rows[0].new_zeros((*input_ids.shape, rows[0].shape[-1]))
        for i, row in enumerate(rows):
            hidden[i, text[i]] = row
        return hidden

    def _whole(self, hidden: Tensor, keys: Tensor, cache: Cache | None) -> Tensor:
        """All layers, as the library runs them."""
        return self.llm.base_model(
            inputs_embeds=hidden,
            attention_mask=keys.long(),
            position_ids=positions(keys)[:, -hidden.shape[1] :],
            cache=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def _before(self, features: Tensor, has_image: Tensor) -> Callable[[int, Tensor], Tensor]:
        """For `run_layers`: look at the image where a gated layer stands in front of another."""
        fusion = self.fusion
        assert isinstance(fusion, GatedCrossAttention)

        def gated(index: int, hidden: Tensor) -> Tensor:
            if index not in fusion.at:
                return hidden
            layer = fusion.layers[fusion.at[index]]
            if self._checkpointed and self.training and torch.is_grad_enabled():
                return checkpoint(layer, hidden, features, has_image, use_reentrant=False)
            return layer(hidden, features, has_image)

        return gated

    def _is_lower_trained(self) -> bool:
        """Whether something below the layer where image tokens enter has a gradient."""
        lower = [*embeddings_of(self.llm), *layers_of(self.llm)[: self.enter_layer]]
        return self.enter_layer == 0 or any(_is_trained(module) for module in lower)


def _is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _blank(batch: Batch) -> Batch:
    """In place of a batch of no examples one that has nothing to learn: its loss is zero.

    A rank may have none where the others have some, and has to call what they call.
    """
    labels = batch.labels.new_full((1, 2), IGNORED)
    there = torch.ones_like(labels, dtype=torch.bool)
    pixels = batch.pixels.new_zeros((1, *batch.pixels.shape[1:]))
    return Batch((), pixels, ~there[:, 0], torch.zeros_like(labels), there, labels)


def _left_padded(ids: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """The same rows with all padding on the left, so that all end together."""
    order = text.long().argsort(dim=1, stable=True)
    return ids.gather(1, order), text.gather(1, order)


def build(
    model: recipe.Model,
    *,
    device: str = "cpu",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> VisionLanguageModel:
    """The model of a recipe, with the weights that it names; the rest is random from `seed`.

    `device` "meta" makes shapes alone, at any size in no memory, from `llm.config` or the folder's
    config.json. Raises UsageError where a part is not there or parts do not fit.
    """
    return assembled(model, device=device, seed=seed, dtype=dtype, load=True)


def assembled(
    model: recipe.Model, *, device: str, seed: int, dtype: torch.dtype, load: bool
) -> VisionLanguageModel:
    """`build`, or without `load` the same with no weights loaded."""
    with torch.random.fork_rng(devices=[]), torch.device("meta" if device == "meta" else "cpu"):
        torch.manual_seed(seed)
        encoder = build_encoder(model.encoder, load=load)
        llm = build_language_model(model.llm, dtype=dtype, load=load)
        config = llm.config.get_text_config()
        layers, enter = config.num_hidden_layers, model.fusion.enter_layer
        between = enter > 0 or model.fusion.kind == "gated_cross_attention"
        if between and not can_run_layers(llm.config):
            raise UsageError(
                f"fusion: {model.fusion.kind} with enter_layer {enter} works between layers, which "
                f"is supported for {', '.join(KNOWN_LAYERS)} without sliding windows, not for "
                f"this {llm.config.model_type}; image tokens can enter at layer 0 of any"
            )
        if enter >= layers:
            raise UsageError(f"fusion.enter_layer is {enter}, and the llm has {layers} layers")
        fusion = build_fusion(model.fusion, encoder, config.hidden_size, layers)
    made = VisionLanguageModel(
        encoder.to(dtype),
        fusion.to(dtype),
        llm,
        enter_layer=enter,
        eos_id=-1 if device == "meta" else processor_of(model).eos_id,
        seed=seed,
        mean=model.encoder.mean,
        std=model.encoder.std,
    )
    return made if device == "meta" else made.to(device)

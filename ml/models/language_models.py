"""Causal language models of Hugging Face: loaded from a folder, and run some layers at a time.

`run_layers` calls the layers of the architectures that it knows itself, so that image tokens can
enter between two of them and cross-attention can stand in front of one. It needs no packing and no
library mask: which key a query sees follows from `keys` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Cache,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from ml import recipe
from ml.models.folders import located
from pipelines.errors import UsageError

_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
_SHORT_KEYS = 128  # up to so many torch's fused attention is the slower one, see `_attention`
_SCALES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def config_of(llm: recipe.LanguageModel) -> PretrainedConfig:
    """The architecture, from the recipe or else from the folder. Raises UsageError."""
    if llm.config is not None:
        try:
            return AutoConfig.for_model(**llm.config)
        except (TypeError, ValueError) as e:
            raise UsageError(f"llm.config: {e}; it is a config.json with its model_type") from e
    folder = located(llm.path, "llm.path")
    gguf = {"gguf_file": llm.gguf_file} if llm.gguf_file else {}
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, **gguf)
    except (OSError, ValueError) as e:
        raise UsageError(f"llm.path: {folder} is no model of transformers: {e}") from e


def build_language_model(
    llm: recipe.LanguageModel, *, dtype: torch.dtype, load: bool = True
) -> PreTrainedModel:
    """The language model of a recipe, on torch's default device.

    `load`: with its weights; else, and on the meta device, the architecture alone. Raises
    UsageError where it is not there, or where the project cannot run it rightly.
    """
    on_meta = torch.get_default_device().type == "meta"
    if on_meta or not load:
        config = config_of(llm)
        config.dtype = dtype
        with no_init_weights():
            made: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
        made.tie_weights()
    else:
        folder = located(llm.path, "llm.path")
        gguf: dict[str, Any] = {}
        if llm.gguf_file:
            whole = GgufConfig(dequantize=True)  # packed weights cannot be trained
            gguf = {"gguf_file": llm.gguf_file, "quantization_config": whole}
        try:
            load_whole: Any = AutoModelForCausalLM.from_pretrained
            made, found = load_whole(
                folder, local_files_only=True, dtype=dtype, output_loading_info=True, **gguf
            )
        except (OSError, ValueError) as e:
            raise UsageError(f"llm.path: {folder} holds no model that loads: {e}") from e
        if found["missing_keys"]:  # the library would take random ones
            raise UsageError(
                f"llm.path: {folder} lacks {', '.join(sorted(found['missing_keys'])[:3])}"
            )
        if llm.gguf_file:
            made.hf_quantizer = None  # a model like any other now; with it, it could not be saved
    kind = made.config.model_type
    if any(getattr(made.config, name, None) not in (None, 1.0) for name in _SCALES_LOGITS):
        raise UsageError(f"llm: {kind} changes its logits after its last layer: not supported")
    if getattr(made, "_is_stateful", False):
        raise UsageError(
            f"llm: {kind} carries a state from token to token, and no mask keeps an absent image "
            "out of it: not supported"
        )
    return made


def can_run_layers(config: PretrainedConfig) -> bool:
    """Whether `run_layers` knows the architecture."""
    windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    windows |= config.model_type == "mistral" and config.sliding_window is not None
    return config.model_type == "bloom" or (config.model_type in _LLAMA_LIKE and not windows)


KNOWN_LAYERS = ("bloom", *_LLAMA_LIKE)


def layers_of(llm: PreTrainedModel) -> nn.ModuleList:
    """The layers, of an architecture that `run_layers` knows."""
    base: Any = llm.base_model
    return base.h if llm.config.model_type == "bloom" else base.layers


def embeddings_of(llm: PreTrainedModel) -> list[nn.Module]:
    """What `embedded` calls."""
    base: Any = llm.base_model
    norms = [base.word_embeddings_layernorm] if llm.config.model_type == "bloom" else []
    return [llm.get_input_embeddings(), *norms]


def embedded(llm: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """[B, L] token ids as what enters the first layer, [B, L, H]."""
    embeddings: Any = llm.get_input_embeddings()
    base: Any = llm.base_model
    hidden = embeddings(input_ids)
    if llm.config.model_type == "bloom":
        hidden = base.word_embeddings_layernorm(hidden)
    return hidden


def finished(llm: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The norm after the last layer, in front of the head."""
    base: Any = llm.base_model
    return base.ln_f(hidden) if llm.config.model_type == "bloom" else base.norm(hidden)


def run_layers(
    llm: PreTrainedModel,
    hidden: Tensor,
    keys: Tensor,
    start: int,
    stop: int,
    *,
    before: Callable[[int, Tensor], Tensor] | None = None,
    cache: Cache | None = None,
) -> Tensor:
    """Layers `start` to `stop` - 1 on `hidden` [B, Q, H].

    `keys` [B, K], bool, are the positions that may be attended to; the last Q of them are those of
    `hidden`, the others are in `cache`. Positions are counted over `keys` alone, so what is masked
    out takes no place. `before` may change what enters a layer.
    """
    queries = hidden.shape[1]
    position_ids = positions(keys)[:, -queries:]
    allowed = _allowed(keys, queries)
    base: Any = llm.base_model
    given: dict[str, Any]
    if llm.config.model_type == "bloom":
        alibi = base.build_alibi_tensor(keys.long(), base.num_heads, hidden.dtype)
        given = {"alibi": alibi, "attention_mask": _additive(allowed, hidden), "layer_past": cache}
    else:
        eager = llm.config._attn_implementation == "eager"
        given = {
            "attention_mask": _additive(allowed, hidden) if eager else allowed,
            "position_ids": position_ids,
            "position_embeddings": base.rotary_emb(hidden, position_ids=position_ids),
            "cache": cache,
        }
    with _attention(llm, hidden, keys):
        for index in range(start, stop):
            if before is not None:
                hidden = before(index, hidden)
            made = layers_of(llm)[index](hidden, use_cache=cache is not None, **given)
            hidden = made[0] if isinstance(made, tuple) else made
    return hidden


def _attention(llm: PreTrainedModel, hidden: Tensor, keys: Tensor) -> AbstractContextManager[None]:
    """Which of torch's kernels attends.

    The fused one for CPUs is slow backward through 16 bits where texts are short: at 34 keys it
    takes 3.4 times as long as plain attention, from 256 on less. Not where layers are run again in
    the backward pass, which would be with another kernel.
    """
    in_16_bits = hidden.dtype.itemsize == 2 or torch.is_autocast_enabled("cpu")
    short = hidden.device.type == "cpu" and keys.shape[1] <= _SHORT_KEYS
    learns = torch.is_grad_enabled() and not llm.is_activation_checkpointing
    return sdpa_kernel(SDPBackend.MATH) if in_16_bits and short and learns else nullcontext()


def positions(keys: Tensor) -> Tensor:
    """[B, K] bool as each one's position: how many there are before it."""
    return (keys.long().cumsum(1) - 1).clamp(min=0)


def _allowed(keys: Tensor, queries: int) -> Tensor:
    """Which key each of the last queries sees, [B, 1, Q, K]: those there are, none after it.

    Itself always: a query without any key has no softmax, and nobody looks at what it becomes.
    """
    count = keys.shape[1]
    at = torch.arange(count, device=keys.device)
    own = at[-queries:, None]
    return ((keys[:, None, :] & (at <= own)) | (at == own))[:, None]


def _additive(allowed: Tensor, hidden: Tensor) -> Tensor:
    least = torch.finfo(hidden.dtype).min
    return torch.zeros_like(allowed, dtype=hidden.dtype).masked_fill(~allowed, least)

"""Models of the real classes, so small that a test makes them: all parts, in a folder of its own.

A test sets MODELS to the folder that it calls these with (`tiny_llm` returns the name that a
recipe's llm.path then has), or takes `tiny_model`, which does it all with absolute paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from ml import recipe
from ml.batch import IGNORED, Batch
from ml.models.made_llm import trained_tokenizer

TEXTS = (
    "Question: is there a fracture in the left lung? Answer: yes",
    "Question: what organ is shown in this image? Answer: the liver",
    "Question: which modality is this? Answer: computed tomography",
    "A chest radiograph shows a normal heart and clear lungs.",
    "Axial image of the abdomen; no free fluid is seen, and the kidneys are normal.",
)
VOCABULARY = 320
PAD, EOS = 0, 1

CONFIGS: dict[str, dict[str, Any]] = {
    "bloom": {"model_type": "bloom", "hidden_size": 32, "n_layer": 4, "n_head": 4},
    "llama": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 512},
}


def tiny_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `TEXTS`, saved: <pad> is 0, </s> is 1."""
    made = trained_tokenizer(TEXTS, VOCABULARY)
    made.save_pretrained(folder)
    return made


def tiny_llm(folder: Path, kind: str = "bloom", *, seed: int = 0, **changes: Any) -> str:
    """A causal language model with its tokenizer at `folder`/`kind`; the name `kind`.

    Its weights are ten times as large as usual, so that answers differ from text to text.
    """
    config = AutoConfig.for_model(
        **(CONFIGS[kind] | {"vocab_size": VOCABULARY, "initializer_range": 0.2} | changes),
        pad_token_id=PAD,
        bos_token_id=EOS,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / kind)
    tiny_tokenizer(folder / kind)
    return kind


def tiny_model(
    folder: Path, llm: str = "bloom", fusion: str = "mlp_projector", **fusion_changes: Any
) -> recipe.Model:
    """A recipe's model of a CNN for 32 pixels and a language model of 4 layers, made if needed."""
    if not (folder / llm).is_dir():
        tiny_llm(folder, llm)
    settings: dict[str, Any] = {"heads": 4, "queries": 3, "layers": 1, "every_layers": 2}
    return recipe.Model(
        encoder=recipe.Encoder(kind="cnn", image_px=32),
        llm=recipe.LanguageModel(path=str(folder / llm)),
        fusion=recipe.Fusion.model_validate({"kind": fusion, **settings, **fusion_changes}),
    )


def tiny_batch(
    lengths: tuple[int, ...] = (9, 5, 12),
    *,
    images: tuple[bool, ...] | None = None,
    prompt: int = 3,
    image_px: int = 32,
    seed: int = 0,
) -> Batch:
    """Random examples of these many tokens, the first `prompt` of which are not learnt."""
    random = torch.Generator().manual_seed(seed)
    shown = torch.tensor(images if images is not None else [True] * len(lengths))
    pixels = torch.randn(len(lengths), 3, image_px, image_px, generator=random)
    place = torch.arange(max(lengths))
    mask = place < torch.tensor(lengths)[:, None]
    ids = torch.randint(2, VOCABULARY, mask.shape, generator=random).masked_fill(~mask, PAD)
    return Batch(
        example_ids=tuple(range(len(lengths))),
        pixels=pixels * shown[:, None, None, None],
        has_image=shown,
        input_ids=ids,
        attention_mask=mask,
        labels=ids.masked_fill(~mask | (place < prompt), IGNORED),
    )

"""A small Bloom with random weights and a tokenizer of given texts: where no model is at hand."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import BloomConfig, BloomForCausalLM, PreTrainedTokenizerFast

from pipelines.errors import UsageError

PAD, EOS = "<pad>", "</s>"
LEAST_VOCABULARY = 256 + 2  # every byte, so that any text has ids, and the two above


def make_llm(
    texts: Iterable[str],
    folder: Path,
    *,
    hidden: int,
    layers: int,
    heads: int,
    vocabulary: int,
    seed: int = 0,
) -> int:
    """Write it to `folder`, loadable by AutoModelForCausalLM; its number of parameters.

    The tokenizer is byte-level BPE as Bloom's own. Raises UsageError for sizes that cannot be, and
    where there is something at `folder`.
    """
    if hidden % heads:
        raise UsageError(f"a width of {hidden} does not divide into {heads} heads")
    if vocabulary < LEAST_VOCABULARY:
        raise UsageError(f"a vocabulary of {vocabulary} has no room for all {LEAST_VOCABULARY}")
    if folder.exists():
        raise UsageError(f"{folder} is there already: name another folder")
    tokenizer = trained_tokenizer(texts, vocabulary)
    config = BloomConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        n_layer=layers,
        n_head=heads,
        # Bloom's 0.02 is for thousands of channels: here a layer would add next to nothing to what
        # enters it, and an image take thousands of steps to be noticed.
        initializer_range=hidden**-0.5,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BloomForCausalLM(config)
    made = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    made.rename(folder)
    return model.num_parameters()


def trained_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocabulary` entries at most; 0 is `PAD`, 1 is `EOS`."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS)

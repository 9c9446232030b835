"""The small Bloom that benchmarks of training learn with, and how it is learnt."""

from __future__ import annotations

from torch import Tensor, nn

LAYERS = 8


def made_bloom(vocabulary: int, hidden: int) -> nn.Module:
    """A Bloom of 8 layers with random weights, on torch's default device."""
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(
        vocab_size=vocabulary, hidden_size=hidden, n_layer=LAYERS, n_head=8, use_cache=False
    )
    model: nn.Module = BloomForCausalLM(config)
    return model.train()


def next_token_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """The mean over all tokens but the first of each text; ids are [texts, tokens]."""
    logits = model(input_ids=ids, attention_mask=ids.new_ones(ids.shape)).logits
    return nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


def weights_and_vectors(model: nn.Module) -> list[list[nn.Parameter]]:
    """What is trained, matrices and vectors apart, as training has them for weight decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    by_kind = [[p for p in trained if (p.dim() < 2) is vectors] for vectors in (False, True)]
    return [group for group in by_kind if group]

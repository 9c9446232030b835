"""How vision features [B, T, D] reach a language model of width H.

`MlpProjector` (as LLaVA-1.5, arXiv 2310.03744) and `Resampler` (as the perceiver resampler of
Flamingo, arXiv 2204.14198) make image tokens [B, N, H] that stand before the text.
`GatedCrossAttention` (Flamingo too) changes what enters some of the language model's layers; its
gates start at zero, so that nothing changes at first.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml import recipe
from ml.models.encoders import Encoder
from pipelines.errors import UsageError


class MlpProjector(nn.Module):
    """One image token for each feature, or `tokens`, each the mean of neighbours."""

    def __init__(self, features: int, width: int, hidden: int, tokens: int | None) -> None:
        super().__init__()
        self.tokens = min(tokens or features, features)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, features: Tensor) -> Tensor:
        pooled = _pooled(features, self.tokens)
        return self.out(functional.gelu(self.up(self.norm(pooled))))


def _pooled(features: Tensor, tokens: int) -> Tensor:
    """[B, T, D] to [B, tokens, D]: over the square where both are squares, else along the rows."""
    count = features.shape[1]
    if tokens == count:
        return features
    columns = features.transpose(1, 2)
    side, out = isqrt(count), isqrt(tokens)
    if side**2 == count and out**2 == tokens:
        pooled = functional.adaptive_avg_pool2d(columns.unflatten(2, (side, side)), out).flatten(2)
    else:
        pooled = functional.adaptive_avg_pool1d(columns, tokens)
    return pooled.transpose(1, 2)


class Resampler(nn.Module):
    """A fixed number of learned queries that read the features, `layers` times."""

    def __init__(
        self, features: int, width: int, hidden: int, queries: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.tokens = queries
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.places = nn.Parameter(torch.randn(features, width) * 0.02)
        self.layers = nn.ModuleList(_ResamplerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, hidden)

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.places
        queries = self.queries.expand(len(features), -1, -1)
        for layer in self.layers:
            queries = layer(queries, features)
        return self.out(self.norm(queries))


class _ResamplerLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.features_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, width, heads)
        self.feed_forward = FeedForward(width)

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        # As in Flamingo the queries see themselves, too.
        seen = torch.cat([self.features_norm(features), queries], dim=1)
        queries = queries + self.attention(queries, seen)
        return queries + self.feed_forward(queries)


class GatedCrossAttention(nn.Module):
    """A gated layer in front of every `every`-th layer of the language model.

    `layers` are called one by one by the model that holds this; `at` gives them by the index of
    the language model's layer.
    """

    def __init__(self, width: int, hidden: int, llm_layers: int, every: int, heads: int) -> None:
        super().__init__()
        places = range(every - 1, llm_layers, every)
        self.at = {place: number for number, place in enumerate(places)}
        self.layers = nn.ModuleList(GatedLayer(width, hidden, heads) for _ in places)


class GatedLayer(nn.Module):
    """Cross-attention to the image and a feed-forward layer, each behind a tanh gate at zero."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.features_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(hidden, width, heads)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.feed_forward = FeedForward(hidden)
        self.feed_forward_gate = nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Tensor, features: Tensor, has_image: Tensor) -> Tensor:
        """`hidden` [B, L, H] having looked at `features` [B, T, D]; as it was without an image."""
        shown = has_image[:, None, None].to(hidden.dtype)
        seen = self.attention(hidden, self.features_norm(features))
        hidden = hidden + (shown * self.attention_gate.tanh() * seen).to(hidden.dtype)
        more = self.feed_forward(hidden)
        return hidden + (shown * self.feed_forward_gate.tanh() * more).to(hidden.dtype)


class CrossAttention(nn.Module):
    """Multi-head attention of [B, N, W] to [B, M, D], normalised first; [B, N, W] comes out."""

    def __init__(self, width: int, seen_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(seen_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        query = self._heads(self.query(self.norm(x)))
        key, value = map(self._heads, self.key_value(seen).chunk(2, dim=-1))
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers, four times as wide between them, normalised first."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )


Fusion = MlpProjector | Resampler | GatedCrossAttention


def build_fusion(fusion: recipe.Fusion, encoder: Encoder, hidden: int, llm_layers: int) -> Fusion:
    """The fusion of a recipe for an LLM of width `hidden`. Raises UsageError for what cannot be."""
    divided = {"resampler": encoder.width, "gated_cross_attention": hidden}.get(fusion.kind)
    if divided is not None and divided % fusion.heads:
        raise UsageError(f"fusion.heads: a width of {divided} does not divide into {fusion.heads}")
    if fusion.kind == "mlp_projector":
        return MlpProjector(encoder.tokens, encoder.width, hidden, fusion.tokens)
    if fusion.kind == "resampler":
        return Resampler(
            encoder.tokens, encoder.width, hidden, fusion.queries, fusion.layers, fusion.heads
        )
    if fusion.enter_layer:
        raise UsageError("fusion.enter_layer: gated_cross_attention has no image tokens to enter")
    if fusion.every_layers > llm_layers:
        raise UsageError(
            f"fusion.every_layers is {fusion.every_layers}, and the llm has {llm_layers} layers"
        )
    return GatedCrossAttention(encoder.width, hidden, llm_layers, fusion.every_layers, fusion.heads)

"""What a model is given at once: images, tokens, and which of the tokens are to be learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

IGNORED = -100
"""A label that is not learnt: of a prompt's token, or of padding."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B examples of at most L tokens, padded on the right; labels are not shifted.

    Pixels are bytes, as images have them: the model makes floats of them, where it runs. Floats are
    taken as made already. An example without an image has pixels of zero and `has_image` False.
    """

    example_ids: tuple[int, ...]
    pixels: Tensor  # uint8, or float32, [B, 3, side, side]
    has_image: Tensor  # bool [B]
    input_ids: Tensor  # int64 [B, L]
    attention_mask: Tensor  # bool [B, L]
    labels: Tensor  # int64 [B, L], IGNORED where not learnt

    @property
    def label_tokens(self) -> int:
        """Tokens that the loss is summed over: the first of a row is given, not predicted."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    @property
    def tokens(self) -> int:
        """Tokens of text, padding apart."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=True),
            has_image=self.has_image.to(device, non_blocking=True),
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )


def empty_pixels(count: int, side: int) -> Tensor:
    """Room for images, uint8 [count, 3, side, side], which lie in memory as decoders write them."""
    return torch.empty((count, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


def squares(pixels: Tensor) -> np.ndarray:
    """The memory of `empty_pixels` as decoders write it, [count, side, side, 3]."""
    return pixels.permute(0, 2, 3, 1).numpy()

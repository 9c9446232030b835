"""What a model is given: examples as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NOT_LEARNT = -100
"""Label of a token that the loss leaves out: prompt and padding."""


@dataclass(frozen=True)
class Batch:
    """B examples, padded on the right to the L tokens of the longest.

    Shapes: `pixels` float32 [B, 3, S, S], zero where `has_image` (bool [B]) is False; `input_ids`
    int64 [B, L]; `attention_mask` bool [B, L], False on padding; `labels` int64 [B, L], the input
    ids where they are to be learnt, else NOT_LEARNT. Labels are not shifted: the model predicts
    `labels[:, 1:]` from what stands before.
    """

    example_ids: list[int]
    pixels: Tensor
    has_image: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.example_ids)

    @property
    def label_tokens(self) -> int:
        """Tokens whose loss counts."""
        return int((self.labels[:, 1:] != NOT_LEARNT).sum())

    @property
    def tokens(self) -> int:
        """Text tokens, padding apart."""
        return int(self.attention_mask.sum())

    def to(self, device: str | torch.device) -> Batch:
        """The same on a device; copies run beside the host where memory is pinned."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("pixels", "has_image", "input_ids", "attention_mask", "labels")
        }
        return Batch(self.example_ids, **moved)

"""Outputs of what is not trained, computed once for each image and each text.

A frozen encoder says the same of an image in every epoch, and layers below the one where image
tokens enter the same of a text. On a CPU, or where epochs are many and short, that is most of a
step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class KeptOutputs:
    """One tensor a key, in host memory; what no longer fits `most_bytes` is computed each time."""

    def __init__(self, most_bytes: int) -> None:
        self._room = most_bytes
        self._kept: dict[bytes, Tensor] = {}

    def of(
        self, keys: Sequence[bytes], compute: Callable[[list[int]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """The outputs of all keys; `compute` makes those of the positions that are not kept."""
        missing = [i for i, key in enumerate(keys) if key not in self._kept]
        made = dict(zip(missing, compute(missing), strict=True)) if missing else {}
        for i, value in made.items():
            size = value.numel() * value.element_size()
            if size <= self._room and keys[i] not in self._kept:
                # A copy of its own: a view would keep the batch that it was computed with.
                self._kept[keys[i]] = value.detach().to("cpu", copy=True)
                self._room -= size
        return [made[i] if i in made else self._kept[key] for i, key in enumerate(keys)]


def key_of(values: Tensor) -> bytes:
    """A key of what a tensor holds."""
    content = values.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(content.data, digest_size=16).digest()

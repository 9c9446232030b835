"""What a model reads from: image files become pixels, texts become token ids. No weights needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from ml import recipe
from ml.batch import empty_pixels, squares
from ml.models.folders import located
from pipelines.errors import DataRefused, UsageError
from pipelines.figures.tokenizers import load_tokenizer, tokenizer_sha256
from udfs.images.decode import Rejected, decode
from udfs.images.resized import resized


class UnreadableImage(DataRefused):
    """An image file that cannot be decoded; `reason` is a word, see `udfs.images.decode`."""

    def __init__(self, content: bytes, reason: str) -> None:
        super().__init__(f"an image of {len(content)} bytes cannot be read: {reason}")
        self.reason = reason


class Processor:
    """`tokenizer` is transformers' fast tokenizer; `pad_id` and `eos_id` are its ids.

    `folder` is where it was read from.
    """

    def __init__(self, tokenizer: Any, encoder: recipe.Encoder, folder: Path) -> None:
        self.tokenizer = tokenizer
        self._folder = folder
        if tokenizer.eos_token_id is None:
            raise UsageError("llm: its tokenizer has no token that ends a text (eos_token)")
        self.eos_id: int = tokenizer.eos_token_id
        pad = tokenizer.pad_token_id
        self.pad_id: int = self.eos_id if pad is None else pad
        self.image_px = encoder.image_px

    def tokenizer_sha256(self) -> str | None:
        """The tokenizer's name in gold.token_ids; None where ids there may be others than its own.

        That is where transformers has made another tokenizer of the files than the tokenizers
        library does, or made one of a GGUF file.
        """
        if not (self._folder / "tokenizer.json").is_file():
            return None
        mine = self.tokenizer.backend_tokenizer
        mine.no_truncation()
        mine.no_padding()
        same = mine.to_str() == load_tokenizer(self._folder).to_str()
        return tokenizer_sha256(self._folder) if same else None

    def image(self, content: bytes) -> Tensor:
        """What `draw` makes of an image file, uint8 [3, S, S]."""
        made = empty_pixels(1, self.image_px)
        self.draw(content, squares(made)[0])
        return made[0]

    def draw(self, content: bytes, square: np.ndarray) -> None:
        """An image file as pixels, into a `square` of `squares`, uint8 [S, S, 3].

        The longest side becomes S, smaller or larger (bicubic, see `udfs.images.resized`), and the
        rest is black, half on each side: nothing is cut off, and nothing is distorted. Raises
        UnreadableImage.
        """
        try:
            picture = decode(content, enough_px=self.image_px)
        except Rejected as e:
            raise UnreadableImage(content, e.reason) from e
        pixels = picture.pixels
        scale = self.image_px / max(pixels.shape[:2])
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        if (height, width) != pixels.shape[:2]:
            pixels = resized(pixels, width, height)
        top, left = (self.image_px - height) // 2, (self.image_px - width) // 2
        bottom, right = top + height, left + width
        square[:top] = square[bottom:] = 0
        square[top:bottom, :left] = square[top:bottom, right:] = 0
        if pixels.ndim == 3:
            square[top:bottom, left:right] = pixels
        else:
            for channel in range(3):  # in a third of the time that broadcasting takes
                square[top:bottom, left:right, channel] = pixels


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels [B, 3, S, S] of bytes as the floats that an encoder takes; floats are that already."""
    if pixels.dtype != torch.uint8:
        return pixels
    made = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    # Numbers, no tensors: these would be cast with the model's weights, or copied in each step.
    for channel, center, width in zip(made.unbind(1), mean, std, strict=True):
        channel.mul_(1 / (255 * width)).sub_(center / width)
    return made


def processor_of(model: recipe.Model) -> Processor:
    """The processor of a recipe's model. Raises UsageError where the tokenizer is not there."""
    folder = located(model.llm.path, "llm.path")
    gguf = {}
    if model.llm.gguf_file and not (folder / "tokenizer.json").is_file():
        gguf = {"gguf_file": model.llm.gguf_file}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **gguf)
    except (OSError, ValueError) as e:
        raise UsageError(f"llm.path: {folder} holds no tokenizer: {e}") from e
    if not tokenizer.is_fast:
        raise UsageError(f"llm.path: {folder} holds no fast tokenizer (tokenizer.json)")
    return Processor(tokenizer, model.encoder, folder)

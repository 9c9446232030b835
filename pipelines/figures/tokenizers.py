"""Tokenizers of Hugging Face that lie in folders. No Spark is needed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError

TOKENIZER_FILES = ("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
"""Sorted. `tokenizer.json` has to be there: it alone is what the tokenizers library reads."""


def tokenizer_sha256(tokenizer_dir: str | Path) -> str:
    """SHA-256 (hexadecimal) of the folder's tokenizer files, of each its name, size and bytes.

    Raises UsageError where the folder has no tokenizer.json.
    """
    folder = Path(tokenizer_dir)
    if not (folder / "tokenizer.json").is_file():
        raise UsageError(f"no tokenizer.json in {folder}: save the tokenizer as a fast one")
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def load_tokenizer(tokenizer_dir: str | Path) -> Any:
    """The tokenizers library's tokenizer of a folder, that neither cuts nor pads.

    Raises UsageError where the folder holds none that it can read.
    """
    try:
        from tokenizers import Tokenizer  # here: not all that import this module tokenise
    except ImportError as e:
        raise UsageError("token ids need the package tokenizers, which is not installed") from e

    path = Path(tokenizer_dir, "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as e:  # the library raises nothing more special
        raise UsageError(f"{path} is no tokenizer: {e}") from e
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer

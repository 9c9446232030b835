"""Texts as token ids of any Hugging Face tokenizer that lies in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from schemas import TOKEN_IDS

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


def token_ids_of(texts: DataFrame, tokenizer_dir: str | Path) -> DataFrame:
    """Rows of gold.token_ids for `texts` (example_id, text), whose texts must not be NULL.

    Ids are the text's alone: special tokens (begin, end, padding) are the model's business and are
    not added; nothing is cut. Texts go in Arrow batches through the tokenizers library, which loads
    the folder's tokenizer.json once a worker; every worker must see the folder. Raises UsageError
    where the folder holds none that it can read.
    """
    sha256 = tokenizer_sha256(tokenizer_dir)
    path = str((Path(tokenizer_dir) / "tokenizer.json").resolve())
    _loaded(path, sha256)  # fails here and now, and not in a task

    def in_batches(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        # Spark runs a task on each core already.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        tokenizer = _loaded(path, sha256)
        for batch in batches:
            given = batch["text"].to_pylist()
            encoded = tokenizer.encode_batch_fast(given, add_special_tokens=False)
            ids = pa.array([e.ids for e in encoded], pa.list_(pa.int32()))
            kept = [batch["example_id"], batch["text_hash"]]
            yield pa.RecordBatch.from_arrays([*kept, ids], ["example_id", "text_hash", "ids"])

    rows = texts.select("example_id", "text", F.xxhash64("text").alias("text_hash")).mapInArrow(
        in_batches, "example_id bigint, text_hash bigint, ids array<int>"
    )
    return TOKEN_IDS.conform(rows.withColumn("tokenizer_sha256", F.lit(sha256)))


@cache
def _loaded(path: str, sha256: str) -> Any:
    """The tokenizer at `path`; `sha256` names its content, so that a new one is loaded anew."""
    try:
        from tokenizers import Tokenizer  # here: not all that import this module tokenise
    except ImportError as e:
        raise UsageError("token ids need the package tokenizers, which is not installed") from e

    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as e:  # the library raises nothing more special
        raise UsageError(f"{path} is no tokenizer: {e}") from e
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer

"""Texts as token ids of any Hugging Face tokenizer that lies in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.figures.tokenizers import load_tokenizer, tokenizer_sha256
from schemas import TOKEN_IDS


def text_hash() -> Column:
    """Of the columns `prompt` and `answer`: not of the two as one text, whose border may move."""
    return F.xxhash64("prompt", "answer")


def token_ids_of(texts: DataFrame, tokenizer_dir: str | Path) -> DataFrame:
    """Rows of gold.token_ids for `texts` (example_id, prompt, answer); no text may be NULL.

    Prompt and answer are tokenised apart, as training does. Ids are the texts' alone: special
    tokens (begin, end, padding) are the model's business and are not added; nothing is cut. Texts
    go in Arrow batches through the tokenizers library, which loads the folder's tokenizer.json once
    a worker; every worker must see the folder. Raises UsageError where the folder holds none that
    it can read.
    """
    sha256 = tokenizer_sha256(tokenizer_dir)
    folder = str(Path(tokenizer_dir).resolve())
    _loaded(folder, sha256)  # fails here and now, and not in a task

    def in_batches(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        # Spark runs a task on each core already.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        tokenizer = _loaded(folder, sha256)
        for batch in batches:
            prompts, answers = (
                tokenizer.encode_batch_fast(batch[name].to_pylist(), add_special_tokens=False)
                for name in ("prompt", "answer")
            )
            ids = [p.ids + a.ids for p, a in zip(prompts, answers, strict=True)]
            made = {
                "example_id": batch["example_id"],
                "text_hash": batch["text_hash"],
                "prompt_tokens": pa.array([len(p.ids) for p in prompts], pa.int32()),
                "ids": pa.array(ids, pa.list_(pa.int32())),
            }
            yield pa.RecordBatch.from_pydict(made)

    rows = texts.select(
        "example_id", "prompt", "answer", text_hash().alias("text_hash")
    ).mapInArrow(
        in_batches, "example_id bigint, text_hash bigint, prompt_tokens int, ids array<int>"
    )
    return TOKEN_IDS.conform(rows.withColumn("tokenizer_sha256", F.lit(sha256)))


@cache
def _loaded(folder: str, sha256: str) -> Any:
    """The tokenizer in `folder`; `sha256` names its content, so that a new one is loaded anew."""
    return load_tokenizer(folder)

"""Token ids that gold.token_ids holds for one tokenizer: what need not be tokenised again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from ml.feed.table import PinnedTable

_SHA256 = "tokenizer_sha256"
_COLUMNS = ("example_id", "text_hash", "ids", "prompt_tokens")
_SEED = 42  # of Spark's xxhash64


@dataclass(frozen=True, eq=False)
class TokenIds:
    """By example, sorted: the hash of its texts, and their ids from `starts` to the next start.

    The first `prompt_tokens` of an example's ids are its prompt's. They take some 300 bytes a
    caption.
    """

    example_ids: np.ndarray  # int64 [examples]
    text_hashes: np.ndarray  # int64 [examples]
    prompt_tokens: np.ndarray  # int32 [examples]
    starts: np.ndarray  # int64 [examples + 1]
    ids: np.ndarray  # int32

    def __len__(self) -> int:
        return len(self.example_ids)

    def of(
        self, example_ids: Sequence[int], texts: Sequence[tuple[str, str]]
    ) -> list[tuple[list[int], list[int]] | None]:
        """Of each example the ids of prompt and answer; None where it has none of just these."""
        if not len(self):
            return [None] * len(example_ids)
        at = self.example_ids.searchsorted(example_ids).clip(max=len(self) - 1)
        starts = self.starts[at]
        rows = zip(
            self.example_ids[at].tolist(),
            self.text_hashes[at].tolist(),
            starts.tolist(),
            (starts + self.prompt_tokens[at]).tolist(),
            self.starts[at + 1].tolist(),
            strict=True,
        )
        return [
            (self.ids[start:cut].tolist(), self.ids[cut:end].tolist())
            if found == example_id and hashed == text_hash(*of_example)
            else None
            for example_id, of_example, (found, hashed, start, cut, end) in zip(
                example_ids, texts, rows, strict=True
            )
        ]


def text_hash(prompt: str, answer: str) -> int:
    """Spark's `xxhash64(prompt, answer)`: a column's hash is the seed of the next one's."""
    first = xxhash.xxh64_intdigest(prompt.encode(), _SEED)
    both = xxhash.xxh64_intdigest(answer.encode(), first)
    return both - (1 << 64) if both >> 63 else both


def read_token_ids(table: PinnedTable, tokenizer_sha256: str) -> TokenIds:
    """What gold.token_ids has of a tokenizer; row groups without it are not read.

    Rows of earlier versions, which do not say where the prompt ends, are left out. Raises
    UsageError for a table of other columns, and for a file that cannot be read.
    """
    table.check_columns((*_COLUMNS, _SHA256))
    groups: list[pa.Table] = []
    for number in range(len(table.files)):
        groups += _read(table, number, tokenizer_sha256)
    if not groups:
        none = np.empty(0, np.int64)
        return TokenIds(none, none, none, np.zeros(1, np.int64), none)
    rows = pa.concat_tables(groups)
    example_ids = rows["example_id"].to_numpy()
    order = np.argsort(example_ids, kind="stable")
    # All of them together may be more than offsets of 32 bits can tell.
    lists = rows["ids"].cast(pa.large_list(pa.int32())).combine_chunks()
    ids = lists.take(pa.array(order))
    lengths = pc.list_value_length(ids).to_numpy()
    return TokenIds(
        example_ids[order],
        rows["text_hash"].to_numpy()[order],
        rows["prompt_tokens"].to_numpy()[order],
        np.concatenate([[0], np.cumsum(lengths)]),
        ids.flatten().to_numpy(),
    )


def _read(table: PinnedTable, number: int, tokenizer_sha256: str) -> Iterator[pa.Table]:
    """The tokenizer's rows of a file, by row group."""
    for group, (described, alive) in enumerate(table.row_groups(number)):
        if not _may_hold(described, tokenizer_sha256):
            continue
        read = table.read_groups(number, group, (*_COLUMNS, _SHA256))
        wanted = pc.and_(
            pc.equal(read[_SHA256], tokenizer_sha256), pc.is_valid(read["prompt_tokens"])
        )
        yield read.filter(pc.and_(wanted, pa.array(alive))).select(_COLUMNS)


def _may_hold(group: pq.RowGroupMetaData, tokenizer_sha256: str) -> bool:
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == _SHA256 and chunk.statistics and chunk.statistics.has_min_max:
            return bool(chunk.statistics.min <= tokenizer_sha256 <= chunk.statistics.max)
    return True

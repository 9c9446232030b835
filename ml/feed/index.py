"""Which rows of a table are for training, and where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.feed.table import PinnedTable
from ml.recipe import Data
from pipelines.errors import UsageError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_READERS = 8  # files at a time: what a remote one costs is waiting


@dataclass(frozen=True, eq=False)
class Index:
    """Where the selected rows are: row i lies in row group `group[i]`, there at `row[i]`.

    Row groups are numbered over all files; `groups` has the file and the number within it of each,
    `group_bytes` its size. Rows are in the order of files and of rows in them.
    """

    group: np.ndarray  # int32 [rows]
    row: np.ndarray  # int32 [rows]
    groups: tuple[tuple[int, int], ...]
    group_bytes: np.ndarray  # int64 [groups]

    def __len__(self) -> int:
        return len(self.group)


Wanted = Callable[[pa.ChunkedArray], pa.ChunkedArray]
"""Says of each value of a column whether its row is wanted, or NULL."""


def selection(data: Data, part: str) -> tuple[str, Wanted]:
    """The column that says which rows of a gold table are of a part, and which values do."""
    if data.split_by != "fold":
        return data.split_by, partial(pc.equal, part)
    if part == VALIDATION:
        raise UsageError(
            "folds have no validation rows: leave out validate_every, or split by split"
        )
    return "fold", partial(pc.equal if part == TEST else pc.not_equal, data.fold)


def index_of(
    table: PinnedTable, data: Data, part: str, question_types: Sequence[str] = ()
) -> Index:
    """The rows of a part, of these types of questions if any are given.

    Reads footers, and of the rows what they are chosen by. Raises UsageError where there is none.
    """
    column, wanted = selection(data, part)
    conditions = {column: wanted}
    if question_types:
        of_types = pa.array(question_types, pa.large_string())
        conditions["question_type"] = partial(pc.is_in, value_set=of_types)
    table.check_columns(list(conditions))
    groups: list[tuple[int, int]] = []
    sizes: list[int] = []
    rows: list[np.ndarray] = []
    with ThreadPoolExecutor(_READERS, thread_name_prefix="index") as pool:
        of_file = partial(_rows_of_file, table, conditions)
        for number, found in enumerate(pool.map(of_file, range(len(table.files)))):
            for group, (size, chosen) in enumerate(found):
                groups.append((number, group))
                sizes.append(size)
                rows.append(chosen)
    if not sum(map(len, rows)):
        told = f"fold {data.fold}" if column == "fold" else f"{column} = {part!r}"
        other = "another split_by"
        if question_types:
            told += f" and question_type {' or '.join(map(repr, question_types))}"
            other += " or other question_types"
        raise UsageError(
            f"{table.name} has no row for {part} by {told}: it is empty, or wants {other}"
        )
    of_group = np.repeat(np.arange(len(rows), dtype=np.int32), [len(x) for x in rows])
    return Index(of_group, np.concatenate(rows), tuple(groups), np.array(sizes, np.int64))


def _rows_of_file(
    table: PinnedTable, conditions: Mapping[str, Wanted], number: int
) -> list[tuple[int, np.ndarray]]:
    """Of each row group its bytes, and its rows that are wanted and not deleted."""
    return list(_rows_of_groups(table, conditions, number))


def _rows_of_groups(
    table: PinnedTable, conditions: Mapping[str, Wanted], number: int
) -> Iterator[tuple[int, np.ndarray]]:
    # Of all row groups at once: they are small columns, and each reading costs a millisecond.
    read = table.read_groups(number, None, list(conditions))
    of_file = np.ones(len(read), bool)
    for column, wanted in conditions.items():
        of_file &= wanted(read[column]).fill_null(False).to_numpy()
    first = 0
    for described, alive in table.row_groups(number):
        chosen = alive & of_file[first : first + len(alive)]
        yield described.total_byte_size, np.flatnonzero(chosen).astype(np.int32)
        first += len(alive)

"""Examples as they are stored: each row group is read once, and rows are cut out of it.

Bytes of an image are not copied: they are views of the row group's memory, which lives as long as
one of them does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pyarrow as pa

from ml.feed.index import Index
from ml.feed.table import PinnedTable


class Column:
    """A column of a row group, from which a row's value comes without copying."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = pa.concat_arrays(column.chunks)
        self._null = array.is_null().to_pylist() if array.null_count else None
        self._text = pa.types.is_large_string(array.type)
        if self._text or pa.types.is_large_binary(array.type):
            _, offsets, data = array.buffers()
            at = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
            self.lengths = np.diff(at)
            self._bounds = at.tolist()
            self._bytes = memoryview(data or b"").cast("B")
            self._values = None
        else:
            self._values = array.to_pylist()

    def __getitem__(self, row: int) -> Any:
        if self._values is not None:
            return self._values[row]
        if self._null is not None and self._null[row]:
            return None
        value = self._bytes[self._bounds[row] : self._bounds[row + 1]]
        return str(value, "utf-8") if self._text else value


class Examples:
    """Reads rows of an index: `columns` of each, in the order asked for, images as memoryviews.

    Row groups are read by `readers`, and stay until they are dropped.
    """

    def __init__(
        self, table: PinnedTable, index: Index, columns: Sequence[str], readers: Executor
    ) -> None:
        table.check_columns(columns)
        self._table, self._index, self._columns = table, index, tuple(columns)
        self._readers = readers
        self._groups: dict[int, Future[tuple[Column, ...]]] = {}

    def prefetch(self, rows: np.ndarray) -> None:
        """Have the row groups of these rows read, the first first."""
        for group in self._index.group[rows].tolist():
            if group not in self._groups:
                self._groups[group] = self._readers.submit(self._read_group, group)

    def read(self, rows: np.ndarray) -> list[tuple[Any, ...]]:
        """The values of `columns` for each of the rows, which are positions in the index.

        Raises UsageError, which names the file, where one cannot be read.
        """
        self.prefetch(rows)
        groups, places = self._index.group[rows].tolist(), self._index.row[rows].tolist()
        columns = {group: self._groups[group].result() for group in set(groups)}
        return [
            tuple([column[place] for column in columns[group]])
            for group, place in zip(groups, places, strict=True)
        ]

    def lengths(self, rows: np.ndarray, columns: Sequence[str]) -> np.ndarray:
        """Bytes of these text columns together, for each of the rows."""
        self.prefetch(rows)
        found = np.empty(len(rows), np.int64)
        group_of = self._index.group[rows]
        places = [self._columns.index(name) for name in columns]
        for group in np.unique(group_of).tolist():
            mine = group_of == group
            read = self._groups[group].result()
            total = np.sum([read[place].lengths for place in places], axis=0)
            found[mine] = total[self._index.row[rows[mine]]]
        return found

    def keep_only(self, groups: Collection[int]) -> None:
        """Forget the other row groups."""
        for group in self._groups.keys() - groups:
            self._groups.pop(group).cancel()

    def place_of(self, row: int) -> str:
        """Where a row lies, for messages."""
        file, group = self._index.groups[self._index.group[row]]
        path = self._table.files[file].path
        return f"{self._table.name}: {path}, row group {group}, row {self._index.row[row]}"

    def _read_group(self, group: int) -> tuple[Column, ...]:
        file, in_file = self._index.groups[group]
        read = self._table.read_group(file, in_file, self._columns)
        return tuple(Column(read[name]) for name in self._columns)

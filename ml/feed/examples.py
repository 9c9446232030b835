"""Examples as they are stored: each row group is read once, and rows are cut out of it.

An image is not copied: it is a view of the row group's memory, which lives as long as one of them
does, or a place in a local file, which is read when its bytes are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ml.feed.index import Index
from ml.feed.pages import Places, Read
from ml.feed.table import PinnedTable


@dataclass(slots=True)
class _InFile:
    """An image in a file, which `bytes` reads."""

    read: Read
    start: int
    length: int

    def __bytes__(self) -> bytes:
        return self.read(self.start, self.length)


class Column:
    """A column of a row group, from which a row's value comes without copying.

    `lengths` are the bytes of each text.
    """

    def __init__(self, column: pa.ChunkedArray | Places) -> None:
        self._text, self._values = False, None
        self._source: memoryview | Read
        if isinstance(column, Places):
            self._source, starts, lengths = column.read, column.starts, column.lengths
        else:
            array = pa.concat_arrays(column.chunks)
            self._text = pa.types.is_large_string(array.type)
            if not self._text and not pa.types.is_large_binary(array.type):
                self._values = array.to_pylist()
                return
            self._source, starts, lengths = _slices(array)
        self.lengths = lengths.clip(min=0)
        self._places = list(zip(starts.tolist(), lengths.tolist(), strict=True))

    def __getitem__(self, row: int) -> Any:
        if self._values is not None:
            return self._values[row]
        start, length = self._places[row]
        if length < 0:
            return None
        if not isinstance(self._source, memoryview):
            return _InFile(self._source, start, length)
        value = self._source[start : start + length]
        return str(value, "utf-8") if self._text else value


def _slices(array: pa.Array) -> tuple[memoryview, np.ndarray, np.ndarray]:
    """The memory of an array of texts or bytes; where each starts, and its bytes, NULL -1."""
    _, offsets, data = array.buffers()  # of 64 bits
    at = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(at)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = -1
    return memoryview(data or b"").cast("B"), at[:-1], lengths


_Columns = tuple[Column, ...]


class Examples:
    """Reads rows of an index: `columns` of each, in the order asked for.

    Of an image comes what `bytes` makes its content of, which may read it then.

    Row groups are read by `readers`, and stay until they are dropped.
    """

    def __init__(
        self, table: PinnedTable, index: Index, columns: Sequence[str], readers: Executor
    ) -> None:
        table.check_columns(columns)
        self._table, self._index, self._columns = table, index, tuple(columns)
        self._readers = readers
        self._groups: dict[int, _Columns | Future[_Columns]] = {}

    def prefetch(self, rows: np.ndarray) -> None:
        """Have the row groups of these rows read, the first first."""
        for group in self._index.group[rows].tolist():
            if group not in self._groups:
                self._groups[group] = self._readers.submit(self._read_group, group)

    def read(self, rows: np.ndarray) -> list[list[Any]]:
        """For each of `columns` its values in the rows, which are positions in the index.

        Raises UsageError, which names the file, where one cannot be read.
        """
        self.prefetch(rows)
        groups, places = self._index.group[rows].tolist(), self._index.row[rows].tolist()
        of_rows = list(zip(map(self._columns_of, groups), places, strict=True))
        return [
            [columns[i][place] for columns, place in of_rows] for i in range(len(self._columns))
        ]

    def lengths(self, rows: np.ndarray, columns: Sequence[str]) -> np.ndarray:
        """Bytes of these text columns together, for each of the rows."""
        self.prefetch(rows)
        found = np.zeros(len(rows), np.int64)
        group_of, row_of = self._index.group[rows], self._index.row[rows]
        by_group = np.argsort(group_of, kind="stable")
        cuts = np.flatnonzero(np.diff(group_of[by_group])) + 1
        numbers = [self._columns.index(name) for name in columns]
        for mine in np.split(by_group, cuts):
            read = self._columns_of(int(group_of[mine[0]]))
            for number in numbers:
                found[mine] += read[number].lengths[row_of[mine]]
        return found

    def keep_only(self, groups: Collection[int]) -> None:
        """Forget the other row groups."""
        for group in self._groups.keys() - groups:
            held = self._groups.pop(group)
            if isinstance(held, Future):
                held.cancel()

    def place_of(self, row: int) -> str:
        """Where a row lies, for messages."""
        file, group = self._index.groups[self._index.group[row]]
        path = self._table.files[file].path
        return f"{self._table.name}: {path}, row group {group}, row {self._index.row[row]}"

    def _columns_of(self, group: int) -> _Columns:
        held = self._groups[group]
        if isinstance(held, Future):
            held = self._groups[group] = held.result()
        return held

    def _read_group(self, group: int) -> _Columns:
        file, in_file = self._index.groups[group]
        return tuple(map(Column, self._table.columns(file, in_file, self._columns)))

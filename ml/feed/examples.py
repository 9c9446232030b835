"""Examples as they are stored: each row group is read once, and rows are cut out of it.

Bytes of an image are not copied: they are views of the row group's memory, which lives as long as
one of them does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml.feed.table import Index, PinnedTable
from pipelines.errors import UsageError

_MOST_OPEN_FILES = 64


class Column:
    """A column of a row group, from which a row's value comes without copying."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # of no rows
            array = pa.concat_arrays(array.chunks)
        kind = array.type
        self._array = array
        self._binary = pa.types.is_binary(kind) or pa.types.is_string(kind)
        self._text = pa.types.is_string(kind)
        if self._binary:
            # Offsets of 64 bits: a row group of images may be larger than 2 GiB.
            _, offsets, data = array.buffers()
            size = np.frombuffer(offsets, np.int32)
            self._offsets = size[array.offset : array.offset + len(array) + 1].tolist()
            self._data = memoryview(data).cast("B") if data is not None else memoryview(b"")
        self._null = array.is_null().to_pylist() if array.null_count else None

    def __getitem__(self, row: int) -> Any:
        if self._null is not None and self._null[row]:
            return None
        if not self._binary:
            return self._array[row].as_py()
        value = self._data[self._offsets[row] : self._offsets[row + 1]]
        return str(value, "utf-8") if self._text else value


class Examples:
    """Reads rows of an index: `columns` of each, in the order asked for."""

    def __init__(self, table: PinnedTable, index: Index, columns: Sequence[str]) -> None:
        self._table = table
        self._index = index
        self._columns = tuple(columns)
        self._files: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._groups: dict[int, tuple[Column, ...]] = {}

    def read(self, rows: np.ndarray) -> list[tuple[Any, ...]]:
        """The values of `columns` for each of the rows, which are positions in the index."""
        groups, places = self._index.group[rows].tolist(), self._index.row[rows].tolist()
        for group in groups:
            if group not in self._groups:
                self._groups[group] = self._read_group(group)
        return [
            tuple(column[place] for column in self._groups[group])
            for group, place in zip(groups, places, strict=True)
        ]

    def keep_only(self, rows: np.ndarray) -> None:
        """Forget the row groups that none of the rows is in."""
        needed = set(np.unique(self._index.group[rows]).tolist())
        for group in [g for g in self._groups if g not in needed]:
            del self._groups[group]

    def place_of(self, row: int) -> str:
        """Where a row lies, for messages."""
        file, group = self._index.groups[self._index.group[row]]
        path = self._table.files[file].path
        return f"{self._table.name}: {path}, row group {group}, row {self._index.row[row]}"

    def _read_group(self, group: int) -> tuple[Column, ...]:
        file, in_file = self._index.groups[group]
        try:
            read = self._file(file).read_row_group(
                in_file, columns=list(self._columns), use_threads=False
            )
        except (OSError, pa.ArrowInvalid) as e:
            path = self._table.files[file].path
            raise UsageError(
                f"{self._table.name}: {path}, row group {in_file} cannot be read: {e}"
            ) from e
        return tuple(Column(read[name]) for name in self._columns)

    def _file(self, number: int) -> pq.ParquetFile:
        if number not in self._files:
            if len(self._files) >= _MOST_OPEN_FILES:
                self._files.popitem(last=False)
            self._files[number] = self._table.open_file(number)
        self._files.move_to_end(number)
        return self._files[number]

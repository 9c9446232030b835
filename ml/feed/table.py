"""One version of a Delta table as files, row groups and the rows that are alive in them.

The log is read by the deltalake package; files are read by pyarrow, a row group at a time, because
deltalake's own readers refuse deletion vectors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.errors import UsageError


_BLOCK_BYTES = 8 << 20
_NONE = (np.empty(0, np.int32),) * 3


@dataclass(frozen=True, eq=False)
class DataFile:
    """A data file of the table: `path` is relative to the table, `deleted` are row positions."""

    path: str
    bytes: int
    rows: int
    deleted: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class PinnedTable:
    """A table at one version.

    `content_hash` (SHA-256, hexadecimal) is of the files' names and sizes and of what is deleted in
    them: data files never change, so the same hash means the same rows.
    """

    location: str
    version: int
    table_id: str
    files: tuple[DataFile, ...]
    filesystem: pafs.FileSystem = field(repr=False)
    root: str = field(repr=False)
    cache_dir: Path | None = None

    @cached_property
    def content_hash(self) -> str:
        digest = hashlib.sha256(self.table_id.encode())
        for file in self.files:
            digest.update(f"\0{file.path}\0{file.bytes}\0{file.rows}\0".encode())
            digest.update(file.deleted.tobytes())
        return digest.hexdigest()

    @property
    def name(self) -> str:
        """The table and its version, for messages."""
        return f"{self.location} at version {self.version}"

    def open_file(self, number: int) -> pq.ParquetFile:
        """File `number`, its footer read. Raises UsageError that names it where it is no more."""
        file = self.files[number]
        try:
            if self.cache_dir is None:
                source = self.filesystem.open_input_file(f"{self.root}/{file.path}")
            else:
                source = pa.memory_map(str(self._cached(file)))
            return pq.ParquetFile(source, pre_buffer=False)
        except FileNotFoundError as e:
            raise UsageError(
                f"{self.name}: {file.path} is not there any more; it was removed by VACUUM: train "
                "from a version that is still kept"
            ) from e
        except (OSError, pa.ArrowInvalid) as e:
            raise UsageError(f"{self.name}: {file.path} cannot be read: {e}") from e

    def _cached(self, file: DataFile) -> Path:
        """The file below the cache. A data file's name and size stand for its content."""
        assert self.cache_dir is not None
        named = hashlib.sha256(f"{self.table_id}\0{file.path}\0{file.bytes}".encode()).hexdigest()
        local = self.cache_dir / f"{named}.parquet"
        if not (local.exists() and local.stat().st_size == file.bytes):
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            partial = local.with_suffix(f".{os.getpid()}.partial")
            with (
                self.filesystem.open_input_stream(f"{self.root}/{file.path}") as source,
                partial.open("wb") as target,
            ):
                while block := source.read(_BLOCK_BYTES):
                    target.write(block)
            partial.replace(local)
        return local


def open_table(
    location: str | Path,
    version: int | None = None,
    *,
    storage_options: Mapping[str, str] | None = None,
    cache_dir: Path | None = None,
) -> PinnedTable:
    """The table in a folder or at a URL, at a version (None: the present one).

    With `cache_dir` each data file is copied there once and read from there. Raises UsageError
    where there is no such table or version.
    """
    text = str(location)
    try:
        table = DeltaTable(text, version=version, storage_options=dict(storage_options or {}))
    except TableNotFoundError as e:
        raise UsageError(f"no Delta table at {text}") from e
    except DeltaError as e:
        raise UsageError(f"{text} has no version {version} that can be read: {e}") from e
    filesystem, root = _filesystem(table.table_uri)
    return PinnedTable(
        text,
        table.version(),
        str(table.metadata().id),
        _files_of(table, text),
        filesystem,
        root,
        cache_dir,
    )


def _filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    if urlsplit(uri).scheme in ("", "file"):
        return pafs.LocalFileSystem(), unquote(urlsplit(uri).path).rstrip("/")
    filesystem, root = pafs.FileSystem.from_uri(uri)
    return filesystem, root.rstrip("/")


def _files_of(table: DeltaTable, location: str) -> tuple[DataFile, ...]:
    added = pa.table(table.get_add_actions(flatten=True))
    deleted = _deleted_rows(table)
    files = []
    for row in added.select(["path", "size_bytes", "num_records"]).to_pylist():
        if row["num_records"] is None:
            raise UsageError(f"{location}: {row['path']} has no count of rows in the log")
        path = unquote(row["path"])
        gone = deleted.get(path, np.empty(0, np.int64))
        files.append(DataFile(path, row["size_bytes"], row["num_records"], gone))
    return tuple(sorted(files, key=lambda f: f.path))


def _deleted_rows(table: DeltaTable) -> dict[str, np.ndarray]:
    """Positions of deleted rows by the file's path relative to the table."""
    found = {}
    root = unquote(urlsplit(table.table_uri).path).rstrip("/")
    for row in pa.table(table.deletion_vectors()).to_pylist():
        path = unquote(urlsplit(row["filepath"]).path)
        # The vector says of each row whether it is kept.
        kept = np.asarray(row["selection_vector"], bool)
        found[path.removeprefix(root).lstrip("/")] = np.flatnonzero(~kept)
    return found


@dataclass(frozen=True, eq=False)
class Index:
    """Where the selected rows are: row i lies in row group `group[i]`, there at `row[i]`.

    Groups are numbered over all files; `groups` has the file and the number within it of each.
    `length` is how long the row's texts are, in bytes.
    """

    group: np.ndarray
    row: np.ndarray
    length: np.ndarray
    groups: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.group)


def index_of(
    table: PinnedTable,
    *,
    select: Mapping[str, Any],
    texts: Sequence[str],
) -> Index:
    """The rows whose columns have what `select` says: a value, or a function of the column.

    Reads those columns and `texts`, nothing else. Raises UsageError where a column is missing or
    no row is selected.
    """
    columns = [*select, *texts]
    groups: list[tuple[int, int]] = []
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number, file in enumerate(table.files):
        parquet = table.open_file(number)
        if missing := sorted(set(columns) - set(parquet.schema_arrow.names)):
            raise UsageError(f"{table.name} has no column {', '.join(missing)}")
        alive = np.ones(parquet.metadata.num_rows, bool)
        alive[file.deleted] = False
        first = 0
        for in_file in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(in_file).num_rows
            read = parquet.read_row_group(in_file, columns=columns, use_threads=False)
            keep = alive[first : first + rows].copy()
            for name, wanted in select.items():
                keep &= _is(read[name], wanted)
            chosen = np.flatnonzero(keep).astype(np.int32)
            length = np.zeros(rows, np.int32)
            for name in texts:
                binary = read[name].combine_chunks().cast(pa.large_binary())
                offsets = np.frombuffer(binary.buffers()[1], np.int64)
                start = binary.offset
                length += np.diff(offsets[start : start + rows + 1]).astype(np.int32)
            parts.append((np.full(len(chosen), len(groups), np.int32), chosen, length[chosen]))
            groups.append((number, in_file))
            first += rows
    group, row, length = (np.concatenate(x) for x in zip(*parts, strict=True)) if parts else _NONE
    index = Index(group, row, length, tuple(groups))
    if not len(index):
        said = " and ".join(f"{name} as asked" for name in select)
        raise UsageError(f"{table.name} has no row with {said or 'anything in it'}")
    return index


def _is(column: pa.ChunkedArray, wanted: Any) -> np.ndarray:
    values = column.to_numpy(zero_copy_only=False)
    return wanted(values) if callable(wanted) else values == wanted

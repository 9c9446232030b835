"""One version of a Delta table: its files, the rows deleted in them, and reading of both.

The log is read by the deltalake package; files are read by pyarrow, for deltalake's own readers
refuse deletion vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from ml.feed.pages import Places, places_of
from ml.feed.store import Store, with_large_offsets
from pipelines.errors import UsageError


@dataclass(frozen=True, eq=False)
class DataFile:
    """A data file: `path` is relative to the table, `deleted` are positions of rows in the file."""

    path: str
    bytes: int
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
    schema: pa.Schema = field(repr=False)
    files: tuple[DataFile, ...] = field(repr=False)
    store: Store = field(repr=False)

    @cached_property
    def content_hash(self) -> str:
        digest = hashlib.sha256(self.table_id.encode())
        for file in self.files:
            digest.update(f"\0{file.path}\0{file.bytes}\0".encode())
            digest.update(file.deleted.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def name(self) -> str:
        """The table and its version, for messages."""
        return f"{self.location} at version {self.version}"

    def footer(self, number: int) -> pq.FileMetaData:
        """The footer of file `number`. Raises UsageError that names it where it is not whole."""
        with self._reading(number):
            return self.store.footer(self.files[number].path)

    def row_groups(self, number: int) -> Iterator[tuple[pq.RowGroupMetaData, np.ndarray]]:
        """Of each row group of file `number` what the footer says, and which rows are not deleted.

        Raises UsageError as `footer`.
        """
        footer = self.footer(number)
        alive = np.ones(footer.num_rows, bool)
        alive[self.files[number].deleted] = False  # positions in the file, not in a row group
        first = 0
        for group in range(footer.num_row_groups):
            described = footer.row_group(group)
            yield described, alive[first : first + described.num_rows]
            first += described.num_rows

    def read_groups(self, number: int, group: int | None, columns: Sequence[str]) -> pa.Table:
        """Columns of a row group of file `number`, None: of all; raises UsageError as `footer`.

        A column that the table got after the file was written is NULL in it.
        """
        self.check_columns(columns)
        with self._reading(number):
            footer = self.footer(number)
            there = [c for c in columns if c in set(footer.schema.to_arrow_schema().names)]
            read = self.store.read_groups(self.files[number].path, group, there) if there else {}
            rows = footer.num_rows if group is None else footer.row_group(group).num_rows
            return pa.table(
                {
                    c: read[c] if c in there else pa.nulls(rows, self.schema.field(c).type)
                    for c in columns
                }
            )

    def columns(
        self, number: int, group: int, names: Sequence[str]
    ) -> tuple[pa.ChunkedArray | Places, ...]:
        """The same column by column; bytes where they lie in the file, if they can be read there.

        Raises as `read_groups`.
        """
        self.check_columns(names)
        found: dict[str, pa.ChunkedArray | Places] = {}
        for name in names:
            if self.store.is_local and pa.types.is_large_binary(self.schema.field(name).type):
                read = partial(self._read_bytes, number)
                read_ahead = partial(self.store.read_ahead, self.files[number].path)
                places = places_of(read, read_ahead, self.footer(number), group, name)
                if places is not None:
                    found[name] = places
        rest = [name for name in names if name not in found]
        if rest:
            read = self.read_groups(number, group, rest)
            found |= {name: read[name] for name in rest}
        return tuple(found[name] for name in names)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raises UsageError that names the columns which the table lacks."""
        if missing := [c for c in columns if c not in self.schema.names]:
            raise UsageError(
                f"{self.name} has no column {', '.join(missing)}: it has "
                f"{', '.join(self.schema.names)}; a run of prepare_captions with --evolve-schema "
                "adds those that are new"
            )

    def _read_bytes(self, number: int, start: int, count: int) -> bytes:
        try:
            content = self.store.read_bytes(self.files[number].path, start, count)
        except OSError as e:
            raise self._unreadable(number, e) from e
        if len(content) < count:
            ends = EOFError(f"it ends at byte {start + len(content)}")
            raise self._unreadable(number, ends)
        return content

    @contextmanager
    def _reading(self, number: int) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowInvalid) as e:
            raise self._unreadable(number, e) from e

    def _unreadable(self, number: int, error: Exception) -> UsageError:
        where = f"{self.name}: {self.files[number].path}"
        if isinstance(error, FileNotFoundError):
            return UsageError(
                f"{where} is not there any more: VACUUM removes files that no later version needs; "
                "train from the present version, or keep old ones longer"
            )
        return UsageError(
            f"{where} cannot be read: {error}; if it is damaged, restore it or make the table again"
        )


def open_table(
    location: str | Path,
    version: int | None = None,
    *,
    storage_options: Mapping[str, str] | None = None,
    cache_dir: Path | None = None,
) -> PinnedTable:
    """The table in a folder or at a URL, at a version (None: the present one).

    With `cache_dir` what was read of a remote table is kept there, as much of it as training reads:
    its images and texts. Raises UsageError where there is no such table or version, or one whose
    columns have other names in its files.
    """
    text, options = str(location), dict(storage_options or {})
    try:
        table = DeltaTable(text, storage_options=options)
    except TableNotFoundError as e:
        raise UsageError(f"no Delta table at {text}") from e
    except (DeltaError, OSError) as e:
        raise UsageError(f"{text} cannot be read: {e}") from e
    newest = table.version()
    try:
        if version is not None and version != newest:
            table = DeltaTable(text, version=version, storage_options=options)
    except (DeltaError, OSError) as e:
        raise UsageError(
            f"{text} has no version {version} that can be read; its newest is {newest}, and a log "
            f"goes back 30 days unless the table says otherwise: {e}"
        ) from e
    metadata = table.metadata()
    if metadata.configuration.get("delta.columnMapping.mode", "none") != "none":
        raise UsageError(f"{text}: tables with delta.columnMapping.mode are not read")
    if metadata.partition_columns:
        raise UsageError(f"{text} is partitioned by {', '.join(metadata.partition_columns)}")
    files = _files_of(table)
    return PinnedTable(
        text,
        table.version(),
        str(metadata.id),
        with_large_offsets(pa.schema(table.schema().to_arrow())),
        files,
        Store(table, {file.path: file.bytes for file in files}, cache_dir),
    )


def _files_of(table: DeltaTable) -> tuple[DataFile, ...]:
    added = _read(table.get_add_actions(flatten=True)).select(["path", "size_bytes"])
    deleted = _deleted_rows(table)
    none = np.empty(0, np.int64)
    files = (
        DataFile(path := unquote(row["path"]), row["size_bytes"], deleted.get(path, none))
        for row in added.to_pylist()
    )
    return tuple(sorted(files, key=lambda f: f.path))


def _deleted_rows(table: DeltaTable) -> dict[str, np.ndarray]:
    """Positions of deleted rows by the file's path relative to the table."""
    found = {}
    root = unquote(urlsplit(table.table_uri).path).rstrip("/")
    for batch in _read(table.deletion_vectors()).to_batches():
        paths = batch.column("filepath").to_pylist()
        # The vector says of each row whether it is kept.
        for path, kept in zip(paths, batch.column("selection_vector"), strict=True):
            place = unquote(urlsplit(path).path).removeprefix(root).lstrip("/")
            found[place] = np.flatnonzero(~kept.values.to_numpy(zero_copy_only=False))
    return found


def _read(stream: Any) -> pa.Table:
    """A table of deltalake's as one of pyarrow's; `pa.table` would import pandas first."""
    return pa.RecordBatchReader.from_stream(stream).read_all()

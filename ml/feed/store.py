"""Data files of a table, local or remote: footers and row groups, read by range.

A footer is read once. Local files are mapped into memory, but for their images: a mapped page that
is not there yet holds Python's lock until the disk answers. Of a remote file only the column chunks
asked for are fetched, and where there is a cache they are kept in it, decoded: the next time they
are mapped as well. Safe to use from several threads.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler

from pipelines.errors import UsageError

_OPEN_FILES = 128
"""For `read_bytes`; a system lets a process have 1024 as a rule."""


_AHEAD_BYTES = 128 << 10
"""What Linux fetches ahead at once, whatever more it is told of; some devices take more."""


class _LocalFile:
    """A file that several threads read, each where it says; closed when nothing refers to it."""

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._number)

    def read(self, start: int, count: int) -> bytes:
        content = os.pread(self._number, count, start)
        # At once on a local disk; others may give less.
        while len(content) < count:
            more = os.pread(self._number, count - len(content), start + len(content))
            if not more:
                break
            content += more
        return content

    def read_ahead(self, start: int, count: int) -> None:
        if sys.platform == "linux":
            for at in range(start, start + count, _AHEAD_BYTES):
                os.posix_fadvise(self._number, at, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)


class Store:
    """Files below a table's folder; `sizes` are their bytes by path."""

    def __init__(
        self, table: DeltaTable, sizes: Mapping[str, int], cache_dir: Path | None = None
    ) -> None:
        uri = urlsplit(table.table_uri)
        self._local = Path(unquote(uri.path)) if uri.scheme in ("", "file") else None
        self.is_local = self._local is not None
        self._remote: pafs.FileSystem | None = None
        self._cache: Path | None = None
        if self._local is None:
            # Where it knows no size it asks for it, and holds Python's lock until the answer.
            options = table._storage_options
            handler = DeltaStorageHandler.from_table(table._table, options, dict(sizes))
            self._remote = pafs.PyFileSystem(handler)
            if cache_dir is not None:
                self._cache = cache_dir / str(table.metadata().id)
        self._local_file = lru_cache(_OPEN_FILES)(partial(_open_local, self._local))
        self._footers: dict[str, pq.FileMetaData] = {}
        self._lock = threading.Lock()

    def footer(self, path: str) -> pq.FileMetaData:
        """Raises FileNotFoundError, or OSError and ArrowInvalid where it is no Parquet file."""
        with self._lock:
            known = self._footers.get(path)
        if known is None:
            kept = self._kept(path, "footer")
            if kept is not None and kept.exists():
                known = pq.read_metadata(kept)
            else:
                with self._open(path) as source:
                    known = pq.read_metadata(source)
                if kept is not None:
                    _keep(kept, known.write_metadata_file)
            with self._lock:
                self._footers[path] = known
        return known

    def read_groups(self, path: str, group: int | None, columns: Sequence[str]) -> pa.Table:
        """Columns of a row group, None: of all; bytes and texts with offsets of 64 bits.

        They may be large.
        """
        kept = self._kept(path, f"{'all' if group is None else group}-{_digest(*columns)}.arrow")
        if kept is not None and (found := _mapped(kept)) is not None:
            return found
        with self._open(path) as source:
            file = pq.ParquetFile(
                source,
                metadata=self.footer(path),
                binary_type=pa.large_binary(),
                pre_buffer=False,
            )
            groups = range(file.num_row_groups) if group is None else [group]
            read = file.read_row_groups(groups, columns=list(columns), use_threads=False)
        read = read.cast(with_large_offsets(read.schema))
        if kept is not None:
            _keep(kept, lambda partial: _write(read, partial))
        return read

    def read_bytes(self, path: str, start: int, count: int) -> bytes:
        """Of a local file, without holding Python's lock; fewer where it ends."""
        return self._local_file(path).read(start, count)

    def read_ahead(self, path: str, start: int, count: int) -> None:
        """Have the system fetch a part of a local file, where it can be told to."""
        with suppress(OSError):  # advice: whoever reads is told what is wrong
            self._local_file(path).read_ahead(start, count)

    def _open(self, path: str) -> pa.NativeFile:
        if self._local is not None:
            return pa.memory_map(str(self._local / path))
        assert self._remote is not None
        return self._remote.open_input_file(path)

    def _kept(self, path: str, what: str) -> Path | None:
        # A data file never changes and never comes back under its name: the name is the content.
        return self._cache and self._cache / _digest(path) / what


def _open_local(folder: Path | None, path: str) -> _LocalFile:
    assert folder is not None
    return _LocalFile(folder / path)


def with_large_offsets(schema: pa.Schema) -> pa.Schema:
    """The schema with one type for bytes and one for texts; writers name others in their files."""
    for i, field in enumerate(schema):
        if pa.types.is_string(field.type) or pa.types.is_string_view(field.type):
            schema = schema.set(i, field.with_type(pa.large_string()))
        elif pa.types.is_binary(field.type) or pa.types.is_binary_view(field.type):
            schema = schema.set(i, field.with_type(pa.large_binary()))
    return schema


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


def _keep(path: Path, write: Callable[[str], object]) -> None:
    """Write a file of the cache under another name first: whoever sees it sees all of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(str(partial))
        partial.replace(path)
    except OSError as e:
        with suppress(OSError):
            partial.unlink()
        raise UsageError(
            f"the cache cannot be written: {e}; make room in {path.parents[1]}, or give another"
        ) from e


def _write(rows: pa.Table, path: str) -> None:
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def _mapped(path: Path) -> pa.Table | None:
    """What was kept; None where nothing was, or a machine that went down left a part of it."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (FileNotFoundError, pa.ArrowInvalid):
        return None

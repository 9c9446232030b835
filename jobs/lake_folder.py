"""A lake's folder: whose turn it is to write a table, and what streams keep beside the tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.locks import locked
from pipelines.errors import UsageError
from schemas import Table


class LakeFolder:
    """The folder or bucket URL of a lake, as its file system has it.

    Locks are files in `.locks` of a lake on the local file system, and end with their process; on
    others there are none.
    """

    def __init__(self, spark: SparkSession, root: str) -> None:
        self.spark = spark
        self.root = root

    def make(self) -> None:
        """Make the folder where it is missing. UsageError where that cannot be."""
        try:
            root, file_system = self._at(self.root)
            made = file_system.mkdirs(root) and file_system.getFileStatus(root).isDirectory()
            reason = "it is no folder, and none can be made there"
            if made and (folder := self._local()):
                _locks(folder).mkdir(exist_ok=True)
        except OSError as e:
            made, reason = False, f"cannot be written to: {e.strerror} ({e.filename})"
        except Py4JJavaError as e:
            made, reason = False, str(e.java_exception.toString()).split(": ", 1)[-1]
        if not made:
            raise UsageError(f"--lake {self.root}: {reason.splitlines()[0]}")

    @contextmanager
    def turn(self, table: Table) -> Iterator[None]:
        """Wait for the table's lock, and hold it."""
        root = self._local()
        if root is None:
            yield
            return
        with locked(_locks(root) / table.name):
            yield

    @contextmanager
    def only_writer(self, table: Table) -> Iterator[None]:
        """Be the one run that writes the table. UsageError where another one is at work.

        Where there are no locks nothing keeps two apart but, of streams, their checkpoint.
        """
        root = self._local()
        if root is None:
            yield
            return
        busy = f"another run is writing {table.name} in this lake: end that one first"
        with locked(_locks(root) / f"{table.name}.stream", busy):
            yield

    def may_have_only_writer(self, table: Table) -> bool:
        """Whether a run may be the table's only writer now: where no lock tells, it always may."""
        if self._local() is None:
            return True
        try:
            with self.only_writer(table):
                return False
        except UsageError:
            return True

    def clear_unborn(self, table: Table) -> None:
        """Remove a log without a commit, which Delta takes for a table that it then cannot find.

        A run leaves one that is killed or finds the disk full just before its first commit; while
        the lock is held nobody else is there.
        """
        root = self._local()
        log = root / table.relative_path / "_delta_log" if root else None
        if log and log.is_dir() and not any(map(_is_of_a_commit, log.rglob("*"))):
            shutil.rmtree(log)

    def checkpoint(self, name: str) -> str:
        """Where the stream of that name keeps its checkpoint: beside the tables, hidden."""
        return f"{self.root}/.checkpoints/{name}"

    def has_checkpoint(self, name: str) -> bool:
        """Whether a stream wrote to that checkpoint, or to one below it."""
        folder, file_system = self._at(self.checkpoint(name))
        return bool(file_system.exists(folder) and file_system.listStatus(folder))

    def remove_checkpoints(self, name: str) -> None:
        """Forget the checkpoint of that name, with all below it."""
        folder, file_system = self._at(self.checkpoint(name))
        file_system.delete(folder, True)

    def _at(self, path: str) -> tuple[Any, Any]:
        """A folder as Hadoop's Path, and its file system."""
        context = self.spark.sparkContext
        folder: Any = context._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]
        return folder, folder.getFileSystem(context._jsc.hadoopConfiguration())

    def _local(self) -> Path | None:
        """The folder, where it is on the local file system."""
        root, file_system = self._at(self.root)
        uri = file_system.getUri()
        return Path(root.toUri().getPath()) if uri.getScheme() == "file" else None


def _locks(root: Path) -> Path:
    return root / ".locks"


def _is_of_a_commit(path: Path) -> bool:
    """Whether a path in a table's log is more than a file on its way or a folder for commits."""
    return path.is_file() and not path.name.startswith(".")

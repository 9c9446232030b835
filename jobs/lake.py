"""Where tables lie and how they are written: the only place that creates, appends, replaces."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from delta.tables import DeltaMergeBuilder, DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.lake_folder import LakeFolder
from jobs.races import retried
from jobs.session import settings
from pipelines.errors import UsageError
from schemas import SchemaMismatch, Table
from schemas.frames import frame_of

TABLE_NAME = re.compile(r"[A-Za-z]\w*\.[A-Za-z]\w*", re.ASCII)
"""A table of a lake by its layer and name."""
_NOTE = "spark.databricks.delta.commitInfo.userMetadata"
_CODEC = "spark.sql.parquet.compression.codec"
_UPKEEP = ("OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES")
"""What Delta calls the operations that leave all rows as they are."""


class Lake:
    """One folder or bucket URL with every table below it.

    Writers use Delta's optimistic transactions: a write that lost a race is done again on the
    newer version of the table, so concurrent jobs all land. Delta needs a file system for it that
    refuses to rename over a file that is there. The local one does not refuse, and a commit would
    be lost; so there the writers of a table take turns (`folder`).

    No write begins before `after` is done; what that raised, the first write raises.
    """

    def __init__(self, spark: SparkSession, root: str, after: Future[None] | None = None) -> None:
        self.spark = spark
        self._after = after
        self.root = root.rstrip("/") if "://" in root else os.path.abspath(root)
        self.folder = LakeFolder(spark, self.root)

    def check_root(self) -> None:
        """Make the lake's folder where it is missing. UsageError where that cannot be."""
        if "`" in self.root:  # Delta's SQL cannot name such a path
            raise UsageError(f"--lake {self.root}: must not have a ` in its name")
        self.folder.make()

    def path(self, table: Table) -> str:
        return f"{self.root}/{table.relative_path}"

    def exists(self, table: Table) -> bool:
        """Whether the table has a first version; a folder in which another run is about to make it
        is none yet, other than for DeltaTable.isDeltaTable."""
        return self.version(table) is not None

    def create(self, table: Table, properties: Mapping[str, str] | None = None) -> None:
        """Create the table as declared, where it is not there yet.

        Raises SchemaMismatch where it is there and not as declared: no write changes its columns.
        """
        if self.exists(table):
            self._as_declared(table, self._load(table))
            return
        builder = DeltaTable.createIfNotExists(self.spark).location(self.path(table))
        builder = builder.comment(table.comment)
        for column in table.columns:
            builder = builder.addColumn(
                column.name, column.type, nullable=column.nullable, comment=column.description
            )
        for name, sql in table.checks.items():
            builder = builder.property(f"delta.constraints.{name}", sql)
        for key, value in {**table.properties, **(properties or {})}.items():
            builder = builder.property(key, value)
        if table.cluster_by:
            builder = builder.clusterBy(*table.cluster_by)

        def create() -> None:
            self.folder.clear_unborn(table)
            builder.execute()

        self._write(table, create)

    def check(self, *tables: Table) -> None:
        """Raises SchemaMismatch where one that is there is not as declared."""
        for table in filter(self.exists, tables):
            self._as_declared(table, self._load(table))

    def evolve(self, tables: Iterable[Table]) -> dict[str, list[str]]:
        """Add the declared columns that tables lack, NULL in the rows that are there.

        Returns which those are, by table. A table that differs in any other way stays as it is.
        """
        added = {}
        for table in filter(self.exists, tables):
            if lacking := table.lacking(self._load(table).schema):
                added[table.name] = [c.name for c in lacking]
                rows = frame_of(self.spark, [], table.struct).write.format("delta").mode("append")
                rows = rows.option("mergeSchema", "true")
                self._write(table, partial(rows.save, self.path(table)))
        return added

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table's rows, at its newest or at the given version.

        Columns that were added after an older version are NULL in it. Raises UsageError where the
        table is missing, SchemaMismatch where it is not as declared.
        """
        newest = self.version(table)
        if newest is None:
            raise UsageError(
                f"no table {table.name} at {self.path(table)}: check --lake, or run the job "
                "that writes it first"
            )
        rows = self._load(table, version)
        if version is not None and version < newest:
            # No later write changes an old version, so --evolve-schema is of no help there.
            added = {c.name: F.lit(None).cast(c.type) for c in table.lacking(rows.schema)}
            rows = rows.withColumns(added) if added else rows
        return self._as_declared(table, rows)

    def read_other(self, place: str, version: int | None = None) -> tuple[DataFrame, int]:
        """Any Delta table pinned to a version, by default its newest: its rows, and which it is.

        `place` is its name in this lake, or its path or URL. Raises UsageError where there is no
        such table or version.
        """
        path = self.path_of(place)
        newest = self._version_at(path)
        if newest is None:
            raise UsageError(
                f"no Delta table at {path}: a table is named layer.table, or by a path"
            )
        version = newest if version is None else version
        try:
            return self._at(path, version), version
        except AnalysisException as e:
            raise UsageError(
                f"{path} has no version {version} that can be read; its newest is {newest}"
            ) from e

    def path_of(self, place: str) -> str:
        """Path or URL of a table that is named layer.table in this lake, or by those themselves."""
        if TABLE_NAME.fullmatch(place):
            return f"{self.root}/{place.replace('.', '/')}"
        return place.rstrip("/") if "://" in place else os.path.abspath(place)

    def _load(self, table: Table, version: int | None = None) -> DataFrame:
        return self._at(self.path(table), version)

    def _at(self, path: str, version: int | None) -> DataFrame:
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(path)

    def stream(self, table: Table, *, max_files: int) -> DataFrame:
        """The table's rows as a stream: those that are there, then whatever is appended.

        A batch reads at most `max_files` files. Raises as `read` does.
        """
        self.read(table)
        reader = self.spark.readStream.format("delta").option("maxFilesPerTrigger", max_files)
        return self._as_declared(table, reader.load(self.path(table)))

    def _as_declared(self, table: Table, rows: DataFrame) -> DataFrame:
        lines = table.mismatches(rows.schema)
        if lines:
            way_out = (
                " -- an earlier version made this table: any job adds what is missing, NULL in the "
                "rows that are there, when it is run once with --evolve-schema"
            )
            raise SchemaMismatch(
                f"{table.name} at {self.path(table)}: {'; '.join(lines)}"
                f"{way_out if table.lacking(rows.schema) else ''}"
            )
        return rows

    def changes(self, table: Table, after: int, until: int) -> DataFrame:
        """The rows that versions after `after` and up to `until` added or removed.

        The table has Delta's change data feed on; raises Delta's errors where those versions were
        written without it, or their files have been vacuumed, when the rows are read.
        """
        reader = self.spark.read.format("delta").option("readChangeFeed", "true")
        reader = reader.option("startingVersion", after + 1).option("endingVersion", until)
        return reader.load(self.path(table))

    def version(self, table: Table) -> int | None:
        """The newest version, None where the table is missing.

        From Delta's own view of the log: `history(1)` starts a Spark job for the same number.
        """
        return self._version_at(self.path(table))

    def _version_at(self, path: str) -> int | None:
        jvm: Any = self.spark.sparkContext._jvm
        log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self.spark._jsparkSession, path)
        newest = log.update(False, jvm.scala.Option.empty(), jvm.scala.Option.empty()).version()
        return None if newest < 0 else int(newest)

    def changes_after(self, table: Table, version: int) -> int:
        """How many later versions brought other rows; compacting and cleaning brings none."""
        newest = self.version(table)
        if newest is None or newest <= version:
            return 0
        history = DeltaTable.forPath(self.spark, self.path(table)).history(newest - version)
        return history.where(~F.col("operation").isin(*_UPKEEP)).count()

    def properties(self, table: Table) -> dict[str, str]:
        return self.identity(table)[1]

    def identity(self, table: Table) -> tuple[str, dict[str, str]]:
        """The id that Delta gave the table when it was made, and its properties."""
        detail = DeltaTable.forPath(self.spark, self.path(table)).detail()
        row = detail.select("id", "properties").collect()[0]
        return row[0], dict(row[1])

    def set_properties(self, table: Table, properties: Mapping[str, str]) -> None:
        """Set table properties; keys and values are quoted, never trusted as SQL."""
        pairs = ", ".join(f"{quoted(k)} = {quoted(v)}" for k, v in properties.items())
        alter = f"ALTER TABLE {self._sql_name(table)} SET TBLPROPERTIES ({pairs})"
        self._write(table, lambda: self.spark.sql(alter))

    def _sql_name(self, table: Table) -> str:
        return f"delta.`{self.path(table)}`"  # check_root refuses a ` in it

    def append(self, table: Table, rows: DataFrame) -> None:
        """Add rows. Never conflicts with another append."""
        writer = table.conform(rows).write.format("delta").mode("append")
        self.create(table)
        self._write(table, lambda: writer.save(self.path(table)))

    def replace(
        self,
        table: Table,
        rows: DataFrame,
        where: str,
        note: str | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Replace, in one transaction, the rows that satisfy the SQL predicate `where`.

        Delta refuses rows that lie outside of the predicate. `note` stays with the commit. `check`
        is called before each attempt, and raises where the table is no more what the rows are for.
        """
        writer = table.conform(rows).write.format("delta").mode("overwrite")
        writer = writer.option("replaceWhere", where)
        if note:
            writer = writer.option("userMetadata", note)
        self.create(table)

        def replace() -> None:
            check()
            writer.save(self.path(table))

        self._write(table, replace)

    def merge(
        self, table: Table, rows: DataFrame, within: str | None = None, note: str | None = None
    ) -> None:
        """Insert rows, or update the whole row where one fits.

        A row fits by the key, one column, or by the SQL condition `within`; `within` and `note` are
        as in `insert_missing`.
        """
        if within is None:
            (key,) = table.key
            within = f"old.{key} = new.{key}"
        self._merge(
            table,
            rows,
            within,
            note,
            lambda m: m.whenMatchedUpdateAll().whenNotMatchedInsertAll(),
        )

    def remove(self, table: Table, rows: DataFrame) -> None:
        """Remove the rows that have the same values as one of `rows` in the columns of `rows`."""
        same = " AND ".join(f"old.{name} = gone.{name}" for name in rows.columns)

        def remove() -> None:
            target = DeltaTable.forPath(self.spark, self.path(table)).alias("old")
            target.merge(rows.distinct().alias("gone"), same).whenMatchedDelete().execute()

        self._write(table, remove)

    def insert_missing(self, table: Table, rows: DataFrame, within: str, note: str) -> None:
        """Insert those of `rows` that no row of the table fits by the SQL condition `within`.

        Rows of the table are `old` in it, those given `new`; a literal on `old` spares reading all
        of the table. `rows` are computed once and may be larger than memory. `note` stays with the
        commit, see `notes`.
        """
        self._merge(table, rows, within, note, lambda m: m.whenNotMatchedInsertAll())

    def update_matched(
        self, table: Table, rows: DataFrame, within: str, changes: Mapping[str, str], note: str
    ) -> None:
        """Set columns, by SQL of `old` and `new`, in rows that fit; else as `insert_missing`."""
        to: dict[str, str | Column] = {**changes}
        self._merge(table, rows, within, note, lambda m: m.whenMatchedUpdate(set=to))

    def _merge(
        self,
        table: Table,
        rows: DataFrame,
        within: str,
        note: str | None,
        clauses: Callable[[DeltaMergeBuilder], DeltaMergeBuilder],
    ) -> None:
        new = table.conform(rows).alias("new")
        self.create(table)

        def merge() -> None:
            target = DeltaTable.forPath(self.spark, self.path(table)).alias("old")
            with settings(self.spark, {_NOTE: note} if note else {}):
                clauses(target.merge(new, within)).execute()

        self._write(table, merge)

    def notes(self, table: Table) -> list[tuple[int, str]]:
        """Versions of commits that were given a note, and the notes; as far as the log reaches."""
        history = DeltaTable.forPath(self.spark, self.path(table)).history()
        noted = history.where("userMetadata IS NOT NULL").select("version", "userMetadata")
        return [(int(version), str(note)) for version, note in noted.collect()]

    def optimize(self, table: Table) -> None:
        """Rewrite small files into large ones, clustered as declared; the rows stay as they are."""
        target = DeltaTable.forPath(self.spark, self.path(table))
        self._write(table, lambda: target.optimize().executeCompaction())

    def size(self, table: Table) -> tuple[int, int]:
        """Files of the newest version, and their bytes."""
        detail = DeltaTable.forPath(self.spark, self.path(table)).detail()
        row = detail.select("numFiles", "sizeInBytes").collect()[0]
        return int(row[0]), int(row[1])

    def vacuum(self, table: Table, retention: timedelta, *, dry_run: bool) -> int:
        """Remove the files that no version younger than `retention` needs; how many those are.

        Delta refuses less than the table's own retention, a week.
        """
        hours = math.ceil(retention / timedelta(hours=1))
        sql = f"VACUUM {self._sql_name(table)} RETAIN {hours} HOURS"
        if dry_run:
            return self.spark.sql(f"{sql} DRY RUN").count()
        # Delta says how many they were in the table's history alone, and on some stores not even
        # there unless told to.
        self.spark.conf.set("spark.databricks.delta.vacuum.logging.enabled", "true")
        self._write(table, lambda: self.spark.sql(sql))
        history = DeltaTable.forPath(self.spark, self.path(table)).history(10)
        ended = history.where("operation = 'VACUUM END'").orderBy(F.desc("version"))
        return int(ended.select("operationMetrics.numDeletedFiles").collect()[0][0])

    def written_at(self, table: Table) -> datetime:
        """When the newest version was committed."""
        history = DeltaTable.forPath(self.spark, self.path(table)).history(1)
        micros = history.select(F.unix_micros("timestamp")).collect()[0][0]
        return datetime.fromtimestamp(micros / 1e6, UTC)

    def _write(self, table: Table, write: Callable[[], object]) -> None:
        if self._after:
            self._after.result()
        codec = {} if table.compressed else {_CODEC: "uncompressed"}
        with self.folder.turn(table), settings(self.spark, codec):
            retried(write)


def quoted(text: str) -> str:
    """A text as a literal of Spark's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

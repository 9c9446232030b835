"""Which rows of a table of examples a model is tested with, and that it was not trained on them."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.run import Run, log
from jobs.trained_run import TrainedRun
from ml.recipe import Data
from pipelines.errors import DataRefused, UsageError
from schemas import SchemaMismatch, Table


@dataclass(frozen=True)
class Tested:
    """Rows to test with, and those that the run was trained on, of pinned versions."""

    table: Table
    version: int
    rows: DataFrame
    training: DataFrame
    split_by: str
    split: str


def is_test(data: Data) -> Column:
    """Of a table of examples, whether a row is for testing; the feed reads what is for training."""
    fold = F.col("fold") == data.fold
    return fold if data.split_by == "fold" else F.col(data.split_by) == "test"


def is_training(data: Data) -> Column:
    """Of a table of examples, whether a row is for training."""
    return ~is_test(data) if data.split_by == "fold" else F.col(data.split_by) == "train"


def tested(run: Run, trained: TrainedRun, table: Table, data: Data) -> Tested:
    """The rows of `table` that `data` says are the test, at the version that --table-version says.

    That is the version that the run was trained from, where nothing else is asked for. Raises
    UsageError where the table, the version or such rows are missing, and DataRefused where the run
    was trained on one of the rows.
    """
    of_training = trained.tables_in.get(table.name)
    version = _version(run, table, of_training)
    examples = _pinned(run, table, version, trained.run_id)
    rows = examples.where(is_test(data) & F.col("image").isNotNull())
    training = _seen(run, trained, table, examples, version).where(is_training(trained.recipe.data))
    split = str(data.fold) if data.split_by == "fold" else "test"
    _refuse_trained(trained, table, rows, training, data)
    if run.args.limit is not None:
        rows = rows.orderBy("order_key").limit(run.args.limit)
        split = f"{split}[:{run.args.limit}]"
    run.tables_in[table.name] = version
    return Tested(table, version, rows, training, data.split_by, split)


def _seen(
    run: Run, trained: TrainedRun, table: Table, examples: DataFrame, version: int
) -> DataFrame:
    """The table as the run was trained from it, or else the version that it is tested on.

    A row stays in its split from version to version, so that one will do where the other is gone
    or cannot be read any more.
    """
    of_training = trained.tables_in.get(table.name)
    if of_training in (None, version):
        return examples
    try:
        return _pinned(run, table, int(of_training or 0), trained.run_id)
    except UsageError as e:
        log(f"{e}; what it was trained on is told from version {version}")
        return examples


def _version(run: Run, table: Table, of_training: int | None) -> int:
    newest = run.lake.version(table)
    if newest is None:
        raise UsageError(
            f"{table.name} is not in {run.lake.root}: run jobs/prepare_captions.py first, or check "
            "--lake"
        )
    asked = run.args.table_version
    if asked == "current" or (asked is None and of_training is None):
        return newest
    return int(asked) if asked is not None else int(of_training or 0)


def _pinned(run: Run, table: Table, version: int, run_id: str) -> DataFrame:
    """The table at a version, whose files are all there, with the columns of today."""
    try:
        rows = run.lake.read(table, version)
        # Whether the files are there is known to who opens them; the log has no hash of a column.
        rows.select(F.max(F.xxhash64("order_key"))).collect()
    except UsageError:
        raise
    except SchemaMismatch as e:
        if version == run.lake.version(table):
            raise
        raise UsageError(
            f"version {version}, which run {run_id} is to be tested on, is of other columns: {e}: "
            "--table-version current takes the newest"
        ) from e
    except Exception as e:
        if not is_gone(e):
            raise
        raise UsageError(
            f"version {version} of {table.name}, which run {run_id} is to be tested on, is gone "
            f"from {run.lake.path(table)} (the newest is {run.lake.version(table)}): "
            "--table-version current takes the newest"
        ) from e
    return rows


def is_gone(error: Exception) -> bool:
    """Whether Spark's error says that a version, or one of its files, is not there any more."""
    text = str(error)
    of_files = "FILE_NOT_EXIST" in text or "FileNotFound" in text
    return isinstance(error, AnalysisException) or of_files


def _refuse_trained(
    trained: TrainedRun, table: Table, rows: DataFrame, training: DataFrame, data: Data
) -> None:
    ids = rows.select("example_id")
    count = ids.count()
    if not count:
        splits = "split, published_split or fold"
        raise UsageError(
            f"{table.name} has no test rows with an image by {data.split_by}"
            f"{f' {data.fold}' if data.split_by == 'fold' else ''}: try another --split-by "
            f"({splits})"
        )
    both = ids.join(training.select("example_id"), "example_id", "left_semi").count()
    if both:
        by = trained.recipe.data.split_by
        own = f"--split-by {by}" + (f" --fold {trained.recipe.data.fold}" if by == "fold" else "")
        raise DataRefused(
            f"run {trained.run_id} was trained on {both:,} of the {count:,} rows of {table.name} "
            f"that it is to be tested on; test it as it was trained: {own}"
        )
    log(f"{count:,} rows of {table.name} to test with, none of them trained on")

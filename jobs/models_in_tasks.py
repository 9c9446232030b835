"""A trained model in Spark's tasks: where it lies, how rows reach it, one model a Python worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark import StorageLevel, TaskContext
from pyspark.sql import DataFrame, SparkSession

from jobs.session import settings

if TYPE_CHECKING:
    from ml.evaluation.answers import Answerer

_TASKS_A_SLOT = 4  # so that a slot with short answers takes over from one with long ones
_BATCHES_HANDED = 8  # of the model's at a time, to be put together by length


class Place(NamedTuple):
    """Where a worker finds the model, and what it may use; `stamp` tells a model from the one that
    lay in the same folder before."""

    folder: str
    stamp: str
    batch_size: int
    threads: int


def place_of(spark: SparkSession, folder: Path, batch_size: int) -> Place:
    """The model's place. A task has `spark.task.cpus` cores, so torch gets as many threads."""
    facts = (folder / "facts.json").stat()
    threads = int(spark.sparkContext.getConf().get("spark.task.cpus", "1") or 1)
    stamp = f"{facts.st_mtime_ns} {facts.st_ino}"
    return Place(str(folder.resolve()), stamp, batch_size, threads)


def partitions_of(spark: SparkSession, rows: int, batch_size: int) -> int:
    """Among how many tasks so many rows for the model go."""
    slots = spark.sparkContext.defaultParallelism
    return max(1, min(_TASKS_A_SLOT * slots, -(-rows // batch_size)))


@contextmanager
def handed_in_batches(spark: SparkSession, batch_size: int) -> Iterator[None]:
    """Spark hands a worker rows for a few of the model's batches at a time."""
    most = str(_BATCHES_HANDED * batch_size)
    with settings(spark, {"spark.sql.execution.arrow.maxRecordsPerBatch": most}):
        yield


@contextmanager
def computed_once(rows: DataFrame) -> Iterator[DataFrame]:
    """Rows computed before they are written: a write holds the table's lock all the while, and is
    done again where it lost a race."""
    kept = rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        kept.count()
        yield kept
    finally:
        kept.unpersist()


def model_at(place: Place) -> Answerer:
    """In a task: the model on the task's device, its GPU where Spark gave it one, else one by
    turns."""
    import torch

    from ml.evaluation.answers import answerer  # not on the driver, which needs no torch

    if not torch.cuda.is_available():
        return answerer(*place, "cpu")
    context: Any = TaskContext.get()
    given = context.resources().get("gpu")
    own = given.addresses[0] if given else context.partitionId() % torch.cuda.device_count()
    return answerer(*place, f"cuda:{own}")

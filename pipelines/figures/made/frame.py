"""Made figures on Spark: as rows, for benchmarks, and as files, written by the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame

from pipelines.figures.made.figure import made_figure
from pipelines.figures.made.files import TRUTH, write_questions, write_volume
from pipelines.figures.made.plan import Order

_ROWS = 64  # figures a batch: some megabytes

_COLUMNS = (
    "number BIGINT, name STRING, image BINARY, caption STRING, article_id STRING, "
    "patient_id STRING, licence STRING, kind STRING, modality STRING, panels INT, copy_of BIGINT, "
    "copy STRING, image_dirt STRING, caption_dirt STRING, facts STRING"
)
_ARROW = pa.schema([*TRUTH, pa.field("image", pa.binary()), pa.field("caption", pa.string())])


def figures(numbers: DataFrame, order: Order) -> DataFrame:
    """A row for each `id` of `numbers`: the figure with that number, see `figure.Figure`.

    For example `figures(spark.range(100_000), Order(seed=1))`.
    """
    schema = pa.schema([_ARROW.field(c.split()[0]) for c in _COLUMNS.split(", ")])

    def make(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column(0).to_pylist()
            for at in range(0, len(ids), _ROWS):
                made = [vars(made_figure(order, n)) for n in ids[at : at + _ROWS]]
                yield pa.RecordBatch.from_pylist(made, schema)

    return numbers.select("id").mapInArrow(make, _COLUMNS)


def written_volumes(
    numbers: DataFrame, order: Order, *, count: int, format_: str, folder: str
) -> DataFrame:
    """Write the volume of each `id`, one after the other in a partition: path, figures, bytes.

    `folder` has to be the same for all executors. Nothing is written before an action.
    """

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for n in batch.column(0).to_pylist():
                done = write_volume(order, n, count, format_, Path(folder))
                yield pa.RecordBatch.from_pylist([asdict(done)])

    return numbers.select("id").mapInArrow(write, "path STRING, figures BIGINT, bytes BIGINT")


def written_questions(numbers: DataFrame, order: Order, *, figures: int, folder: str) -> DataFrame:
    """Write the image of each `id` and return its questions: image_name, copy_of, questions."""
    schema = pa.schema(
        [("image_name", pa.string()), ("copy_of", pa.int64()), ("questions", pa.string())]
    )

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            done = [
                asdict(write_questions(order, n, figures, Path(folder)))
                for n in batch.column(0).to_pylist()
            ]
            yield pa.RecordBatch.from_pylist(done, schema)

    return numbers.select("id").mapInArrow(
        write, "image_name STRING, copy_of BIGINT, questions STRING"
    )

"""silver.figure_images: each figure decoded, cut into parts, brought to the training size.

Figures go through Python in Arrow batches, one decode each. A batch is bounded by Spark's
`spark.sql.execution.arrow.maxBytesPerBatch`; what comes out is sent on in pieces of 16 MB.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from schemas import FIGURE_IMAGES
from udfs.images.decode import Rejected
from udfs.images.isolated import Isolated
from udfs.images.normalised import ENCODINGS
from udfs.images.parts import Limits, Part, Rules, parts_of

READ_CONF = {"spark.sql.parquet.columnarReaderBatchSize": "64"}
"""Of Spark where a table with images is read: rows that it holds at a time. By default 4096, which
are 200 MB of images in one array that grows by copying itself: 7 % of the time of decoding."""

_OUT_BYTES = 16 * 2**20
# Of a figure, in this order; the last two are what `parts_of` asks beside the image.
_FIGURE = ("figure_id", "revision", "sha256")
_COLUMNS = StructType([f for f in FIGURE_IMAGES.struct if f.name != "example_id"])

Parts = Callable[[bytes | None, str, int, Rules], list[Part]]


def images_of(
    figures: DataFrame,
    *,
    longest_side_px: int = 512,
    encoding: str = "jpeg",
    quality: int = 90,
    most_pixels: int = Limits.most_pixels,
    time_limit_s: float = 60.0,
    parts: Parts = parts_of,
) -> DataFrame:
    """Rows of silver.figure_images, one for each part of each figure.

    `figures` has figure_id, revision, image (bytes or NULL), sha256, format ("dicom" where it is)
    and panel_captions (array, may be NULL). No image is upscaled; one of more than `most_pixels`
    is not decoded; `encoding` is "jpeg" with its `quality` (1 to 100) or "png".

    A decoder that crashes or takes more than `time_limit_s` for a figure kills the task. When
    Spark tries it again, figures are decoded one by one in a child process, and the one that kills
    that is rejected as `crashes_decoder` or `decoder_hangs`. So a master must let a task be tried
    again: `local[*]` does not, `local[*,4]` does. `parts` makes the parts of one figure.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"no encoding {encoding}: there are {', '.join(ENCODINGS)}")
    if longest_side_px < Limits.least_side_px or not 1 <= quality <= 100:
        raise ValueError(
            f"longest_side_px must be at least {Limits.least_side_px} and quality 1 to 100: "
            f"{longest_side_px}, {quality}"
        )
    rules = Rules(longest_side_px, encoding, quality, Limits(most_pixels))
    schema = to_arrow_schema(_COLUMNS)

    def decoded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        task = TaskContext.get()
        if task is not None and task.attemptNumber() > 0:
            with Isolated(parts, time_limit_s=time_limit_s) as isolated:
                yield from _batches_of_parts(batches, _rejecting(isolated), rules, schema)
        else:
            watched = _watched(parts, time_limit_s)
            yield from _batches_of_parts(batches, watched, rules, schema)

    panels = F.coalesce(F.size("panel_captions"), F.lit(0)).alias("panels")
    rows = figures.select(*_FIGURE, "image", "format", panels).mapInArrow(decoded, _COLUMNS)
    return FIGURE_IMAGES.conform(rows.withColumn("example_id", F.xxhash64("figure_id", "part")))


def _batches_of_parts(
    batches: Iterable[pa.RecordBatch], parts: Parts, rules: Rules, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    size = 0
    for batch in batches:
        columns = [batch.column(i) for i in range(batch.num_columns)]
        for row in range(batch.num_rows):
            *figure, image, format_, panels = (column[row].as_py() for column in columns)
            for part in parts(image, format_, panels, rules):
                rows.append(dict(zip(_FIGURE, figure, strict=True)) | vars(part))
                size += len(part.image or b"")
            if size > _OUT_BYTES:
                yield pa.RecordBatch.from_pylist(rows, schema)
                rows, size = [], 0
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema)


def _rejecting(isolated: Isolated) -> Parts:
    def parts(*arguments: Any) -> list[Part]:
        try:
            return list(isolated(*arguments))
        except Rejected as e:
            return [Part(reasons=(e.reason,))]

    return parts


def _watched(parts: Parts, time_limit_s: float) -> Parts:
    """`parts`, after whose time limit this process ends.

    The alarm is the kernel's and its default is to end the process, inside a decoder in C too: so
    a figure costs two system calls and no thread.
    """

    def watched(*arguments: Any) -> list[Part]:
        signal.setitimer(signal.ITIMER_REAL, time_limit_s)
        try:
            return parts(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    return watched

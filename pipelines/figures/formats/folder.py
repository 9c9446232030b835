"""`folder`: a list (CSV, TSV, JSON lines, JSON) whose columns arguments name, and its images."""

from __future__ import annotations

from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.figures.delivered.lists import read_lists, shape_of
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.layout import Layout, mapped
from pipelines.figures.formats.listed import check_columns, listed, lists_of, located

PATTERNS = tuple(
    f"*.{ending}{gz}" for ending in ("csv", "tsv", "jsonl", "ndjson", "json") for gz in ("", ".gz")
)


def read(spark: SparkSession, request: Request) -> Delivered:
    """Raises UsageError where the list cannot be told or lacks a column that was named."""
    if "image" not in request.columns:
        raise UsageError(
            "--format folder needs the name of the column with the image's path: "
            "--image-column filename"
        )
    lists = lists_of(spark, request, *PATTERNS)
    if len(lists) > 1:
        raise UsageError(
            f"{request.source}: holds several lists ({', '.join(lists)}): name the one to read"
        )
    shape = shape_of(lists[0], request.encoding)
    check_columns(lists[0], shape, request.columns)
    named = {ours: (name,) for ours, name in request.columns.items()}
    layout = Layout("folder", named.pop("image"), named.pop("record", ()), named)
    rows = mapped(read_lists(spark, [(lists[0], shape)]), layout)
    return listed(spark, located(spark, rows, request), request, lists)

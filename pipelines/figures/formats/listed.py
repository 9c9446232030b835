"""What formats share that are lists and a folder or zip of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession

from pipelines.errors import UsageError
from pipelines.figures.delivered.decoding import encoding_of
from pipelines.figures.delivered.images import (
    ImagePlace,
    image_places,
    list_images,
    locate,
    with_bytes,
    with_hashes,
)
from pipelines.figures.delivered.lists import Shape, first_record, header_of
from pipelines.figures.delivered.places import files_like, parent, size_of
from pipelines.figures.formats.delivery import Delivered, Request


def lists_of(spark: SparkSession, request: Request, *patterns: str) -> list[str]:
    """SOURCE where it is a file, else the files in it that match. Raises UsageError for none."""
    if not request.is_folder:
        return [request.source]
    found = files_like(spark, request.source, *patterns)
    if not found:
        raise UsageError(f"{request.source}: holds none of {', '.join(patterns)}")
    return found


def images_of(spark: SparkSession, request: Request) -> DataFrame:
    """The images as --images says, else those in the list's folder and in the zips in it."""
    return list_images(spark, _places(spark, request), request.limits)


def _places(spark: SparkSession, request: Request) -> list[ImagePlace]:
    if request.images:
        return image_places(spark, request.images)
    if request.source.lower().endswith(".zip"):
        return image_places(spark, [request.source])
    folder = request.source if request.is_folder else parent(request.source)
    return image_places(spark, [folder, *files_like(spark, folder, "*.zip", "*.ZIP")])


def located(spark: SparkSession, rows: DataFrame, request: Request) -> DataFrame:
    """Mapped rows (`layout.mapped`) with where their images lie."""
    return locate(rows, images_of(spark, request), request.limits)


def listed(
    spark: SparkSession,
    rows: DataFrame,
    request: Request,
    lists: Sequence[str],
    *,
    units: Mapping[str, Sequence[str]] | None = None,
    questions: DataFrame | None = None,
) -> Delivered:
    """Rows of `images.locate` with the images that they name.

    `units` are the lists that make up each unit, by default each list by itself.
    """
    return Delivered(
        rows=with_hashes(rows, request.limits),
        with_bytes=lambda todo, _: with_bytes(todo, request.limits),
        units={
            unit: sum(size_of(spark, url) for url in of)
            for unit, of in (units or {url: [url] for url in lists}).items()
        },
        images_apart=True,
        questions=questions,
        notes=_notes(lists, request.encoding),
    )


def _notes(lists: Sequence[str], encoding: str | None) -> tuple[str, ...]:
    """Lists whose encoding was guessed."""
    chosen = [(x, encoding_of(x, encoding)) for x in lists]
    return tuple(
        f"{url} is no UTF-8 and was read as Windows-1252: --encoding says otherwise"
        for url, name in chosen
        if name == "cp1252" and encoding is None
    )


def check_columns(url: str, shape: Shape, columns: Mapping[str, str]) -> None:
    """Raises UsageError where a list has no column of a name that an argument gave."""
    if shape.kind == "csv":
        names = header_of(url, shape)
    else:
        names = list(first_record(url, shape) or columns.values())
    for ours, name in columns.items():
        # Not every JSON object has every name, so there only the image's is asked for.
        if name not in names and (shape.kind == "csv" or ours == "image"):
            raise UsageError(
                f"--{ours.removesuffix('_id').replace('published_', '')}-column {name}: {url} has "
                f"no such column; its columns are {', '.join(names)[:500]}"
            )

"""`hf-parquet`: Parquet files of Hugging Face datasets, an image as a struct of bytes and path.

The columns are found by their names or named by arguments. Each file is a delivery. Of a file with
questions (`vqa`), an image that several questions repeat is one figure, called by its SHA-256.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, MapType, StructField, StructType

from pipelines.errors import UsageError
from pipelines.figures.delivered.limits import MISSING, TOO_LARGE
from pipelines.figures.delivered.places import DeliveryRefused, size_of
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.layout import COLUMNS, split_in
from pipelines.figures.formats.listed import lists_of
from pipelines.trips.sources import escaped

NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "img", "jpg", "png"),
    "record": ("id", "image_id", "figure_id", "__key__", "qid", "question_id"),
    "caption": ("caption", "text", "description", "report"),
    "article_id": ("pmcid", "pmc_id", "PMC_ID", "article_id"),
    "patient_id": ("patient_id", "subject_id"),
    "licence": ("license", "licence"),
    "published_split": ("split",),
    "modality": ("modality",),
}
QUESTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question",),
    "answer": ("answer", "answers"),
    "answer_type": ("answer_type",),
    "question_type": ("question_type", "content_type"),
    "language": ("q_lang", "language"),
}

_PATTERNS = tuple(f"{below}*.parquet" for below in ("", "*/", "*/*/"))


def read(spark: SparkSession, request: Request) -> Delivered:
    """Raises UsageError where the columns cannot be told, DeliveryRefused for a broken file."""
    files, rows, named = _opened(spark, request, NAMES)
    if "caption" not in named:
        raise UsageError(
            f"{request.source}: has no column that is known for captions; its columns are "
            f"{', '.join(rows.columns)}: name one with --caption-column"
            + (", or read it with --format vqa" if "question" in rows.columns else "")
        )
    image, path = _image(rows, named["image"])
    stem = F.regexp_extract("unit", r"([^/]+)\.parquet$", 1)
    record = F.coalesce(_text(rows, named.get("record")), path, F.concat_ws("/", stem, "position"))
    figures = _figures(rows, request, named, image, path, record)
    return _delivered(spark, request, files, figures, rows.select("unit", "position", image))


def read_questions(spark: SparkSession, request: Request) -> Delivered:
    """The same of a file with a question in each row. Raises as `read` does."""
    files, rows, named = _opened(spark, request, {**NAMES, **QUESTION_NAMES, "caption": ()})
    if missing := [c for c in ("question", "answer") if c not in named]:
        raise UsageError(
            f"{request.source}: has no column {' or '.join(missing)}; its columns are "
            f"{', '.join(rows.columns)}"
        )
    image, path = _image(rows, named["image"])
    sha256 = F.sha2(image, 256)
    row = F.concat_ws("/", F.regexp_extract("unit", r"([^/]+)\.parquet$", 1), "position")
    split = F.coalesce(_text(rows, named.get("published_split")), _split())
    questions = rows.select(
        "unit",
        "position",
        F.coalesce(_text(rows, named.get("record")), row).alias("record"),
        sha256.alias("figure_record"),
        *(
            _text(rows, named.get(c)).alias(c)
            for c in ("question", "answer", "answer_type", "question_type")
        ),
        F.coalesce(_text(rows, named.get("language")), F.lit("en")).alias("language"),
        split.alias("published_split"),
        _others(rows, named).alias("fields"),
    )
    every = _figures(rows, request, named, image, path, F.coalesce(sha256, row))
    first = every.groupBy("record").agg(
        F.min_by(F.struct(*every.columns), F.struct("unit", "position")).alias("first"),
        F.count_distinct("published_split").alias("splits"),
    )
    figures = first.select(
        *(F.col(f"first.{c}").alias(c) for c in every.columns if c not in _NOT_OF_IMAGES),
        F.when(F.col("splits") == 1, F.col("first.published_split")).alias("published_split"),
        F.lit(None).cast("map<string,string>").alias("fields"),
    )
    images = rows.select("unit", "position", image)
    return _delivered(spark, request, files, figures, images, questions)


_NOT_OF_IMAGES = ("published_split", "fields")


def _opened(
    spark: SparkSession, request: Request, names: Mapping[str, tuple[str, ...]]
) -> tuple[list[str], DataFrame, dict[str, str]]:
    """The files, their rows with `unit` and `position`, and our column to theirs."""
    files = lists_of(spark, request, *_PATTERNS)
    try:
        reader = spark.read.option("mergeSchema", "true")
        rows = reader.parquet(*map(escaped, files))
    except (PySparkException, Py4JJavaError) as e:
        causes = re.findall(r"Caused by: [\w.$]+: (.+)", str(e))
        why = [*str(e).splitlines()[:1], *causes][-1]
        raise DeliveryRefused(f"{request.source} is no Parquet that can be read: {why}") from e
    named = {}
    for ours, known in names.items():
        asked = request.columns.get(ours)
        if asked and asked not in rows.columns:
            raise UsageError(
                f"{request.source}: has no column {asked}; its columns are "
                f"{', '.join(rows.columns)}"
            )
        if found := [n for n in ((asked,) if asked else known) if n in rows.columns]:
            named[ours] = found[0]
    if "image" not in named:
        raise UsageError(
            f"{request.source}: has no column that is known for images; its columns are "
            f"{', '.join(rows.columns)}: name one with --image-column"
        )
    where = rows.metadataColumn("_metadata")
    # Spark escapes the path as a URL, and writes file:/// where Hadoop writes file:/.
    path = F.url_decode(F.replace(where.getField("file_path"), F.lit("+"), F.lit("%2B")))
    unit = F.regexp_replace(path, "^file:/+", "file:/")
    return files, rows.select("*", unit.alias("unit"), where["row_index"].alias("position")), named


def _image(rows: DataFrame, name: str) -> tuple[Column, Column]:
    """Bytes and path of the image's column. Raises UsageError where it holds no bytes."""
    kind, column = rows.schema[name].dataType, F.col(f"`{name}`")
    if isinstance(kind, BinaryType):
        return column.alias("image"), F.lit(None).cast("string")
    if isinstance(kind, StructType) and "bytes" in kind.names:
        path = column["path"] if "path" in kind.names else F.lit(None)
        return column["bytes"].alias("image"), F.nullif(path.cast("string"), F.lit(""))
    raise UsageError(f"column {name} is {kind.simpleString()}: it must be bytes or {{bytes, path}}")


def _figures(
    rows: DataFrame,
    request: Request,
    named: Mapping[str, str],
    image: Column,
    path: Column,
    record: Column,
) -> DataFrame:
    size = F.octet_length(image)
    too_large = size > request.limits.image_bytes
    columns = {c: _text(rows, named.get(c)) for c in COLUMNS}
    columns["published_split"] = F.coalesce(columns["published_split"], _split())
    problem = F.when(image.isNull() | (size == 0), MISSING).when(too_large, TOO_LARGE)
    return rows.select(
        "unit",
        "position",
        record.alias("record"),
        problem.alias("problem"),
        path.alias("member"),
        F.when(problem.isNull(), F.sha2(image, 256)).alias("sha256"),
        F.when(problem.isNull(), size.cast("bigint")).alias("image_bytes"),
        *(c.alias(n) for n, c in columns.items()),
        _others(rows, named).alias("fields"),
    )


def _delivered(
    spark: SparkSession,
    request: Request,
    files: Sequence[str],
    figures: DataFrame,
    images: DataFrame,
    questions: DataFrame | None = None,
) -> Delivered:
    def with_bytes(todo: DataFrame, units: Sequence[str]) -> DataFrame:
        # The rows, which are text, go to every task, so that the images do not move.
        found = images.where(F.col("unit").isin(list(units)))
        got = found.join(F.broadcast(todo), on=["unit", "position"], how="inner")
        return got.withColumn("image", F.when(F.col("sha256").isNotNull(), F.col("image")))

    units = {f: size_of(spark, f) for f in files}
    return Delivered(figures, with_bytes, units, questions=questions)


def _split() -> Column:
    return split_in(F.element_at(F.split("unit", "/"), -1))


def _text(rows: DataFrame, name: str | None) -> Column:
    return F.lit(None).cast("string") if name is None else _as_text(rows.schema[name])


def _as_text(column: StructField) -> Column:
    value = F.col(f"`{column.name.replace('`', '``')}`")
    if isinstance(column.dataType, StructType | ArrayType | MapType):
        return F.to_json(value)
    if isinstance(column.dataType, BinaryType):
        return F.base64(value)
    return value.cast("string")


def _others(rows: DataFrame, named: Mapping[str, str]) -> Column:
    """Every column that has no place of its own, as text."""
    taken = {*named.values(), "unit", "position"}
    others = [f for f in rows.schema.fields if f.name not in taken]
    entries = F.array(
        *(F.struct(F.lit(f.name).alias("key"), _as_text(f).alias("value")) for f in others)
    )
    if not others:
        return F.create_map().cast("map<string,string>")
    return F.map_from_entries(F.filter(entries, lambda e: e["value"].isNotNull()))

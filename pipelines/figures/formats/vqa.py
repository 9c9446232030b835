"""`vqa`: questions about images, in the layouts of VQA-RAD, SLAKE, PathVQA and VQA-Med.

A layout is recognised by the names in a list's first record. Each image is one figure without a
caption, whether it is there or not, and each question a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.figures.delivered.images import locate, unnamed
from pipelines.figures.delivered.lists import Shape, first_record, read_lists, shape_of
from pipelines.figures.delivered.places import IMAGE_ENDINGS, DeliveryRefused
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.hf_parquet import read_questions
from pipelines.figures.formats.layout import first_of, split_in, without
from pipelines.figures.formats.listed import images_of, listed, lists_of


@dataclass(frozen=True)
class QuestionLayout:
    """Names of a record: our column to what it may be called, as in `layout.Layout`.

    `recognised_by` are names that only this layout has. `test_prefix`: a value of the column
    `split_column` that begins so is the published test part, all else the training part; without,
    the list's file name says the split. `of_image` are columns that say something of the image.
    """

    name: str
    recognised_by: tuple[str, ...]
    image: tuple[str, ...]
    record: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    article: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    of_image: tuple[str, ...] = ()
    split_column: str | None = None
    test_prefix: str | None = None
    language: str | None = None


_COMMON = {"question": ("question", "Q", "q"), "answer": ("answer", "A", "a")}
LAYOUTS = (
    QuestionLayout(
        name="vqa-rad",
        recognised_by=("image_name", "phrase_type"),
        image=("image_name",),
        record=("qid",),
        columns={**_COMMON, "answer_type": ("answer_type",), "question_type": ("question_type",)},
        article=("image_case_url",),
        of_image=("image_organ",),
        split_column="phrase_type",
        test_prefix="test_",
        language="en",
    ),
    QuestionLayout(
        name="slake",
        recognised_by=("img_name", "q_lang"),
        image=("img_name",),
        record=("qid",),
        columns={
            **_COMMON,
            "answer_type": ("answer_type",),
            "question_type": ("content_type",),
            "language": ("q_lang",),
        },
        modality=("modality",),
        of_image=("location",),
    ),
    QuestionLayout(
        name="path-vqa",
        recognised_by=("image", "question"),
        image=("image", "image_path", "img"),
        record=("qid", "id", "question_id"),
        columns={
            **_COMMON,
            "answer_type": ("answer_type",),
            "question_type": ("question_type", "type"),
            "language": ("language",),
            "published_split": ("split",),
        },
        language="en",
    ),
    QuestionLayout(
        name="vqa-med",
        recognised_by=("vqa_med_image",),
        image=("vqa_med_image",),
        columns={**_COMMON, "question_type": ("category",)},
        language="en",
    ),
)

_MAP = "map<string,string>"
_IMAGE_FILE = "({})$".format("|".join(rf"\{e}" for e in IMAGE_ENDINGS))
_PATTERNS = tuple(f"*.{e}{gz}" for e in ("json", "jsonl", "txt") for gz in ("", ".gz"))
_CUT = ("vqa_med_image", "question", "answer")
_CUT_WITH_CATEGORY = ("vqa_med_image", "category", "question", "answer")


def read(spark: SparkSession, request: Request) -> Delivered:
    """Raises UsageError where there is no list, DeliveryRefused for one of no known layout."""
    lists = lists_of(spark, request, *_PATTERNS, "*.pkl", "*.pickle", "*.parquet")
    _refuse_pickles(lists)
    if all(url.endswith(".parquet") for url in lists):
        return read_questions(spark, request)
    recognised = [(url, *_recognised(url, request.encoding)) for url in lists]
    layouts = {layout.name for _, _, layout in recognised}
    if len(layouts) > 1:
        raise UsageError(f"{request.source}: its lists are of {' and '.join(sorted(layouts))}")
    layout = recognised[0][2]
    rows = read_lists(spark, [(url, shape) for url, shape, _ in recognised])
    questions = _questions(rows.withColumn("unit", F.lit(request.source)), layout)
    images = images_of(spark, request)
    figures = _figures(questions, images, layout, request)
    return listed(
        spark,
        figures,
        request,
        lists,
        units={request.source: lists},
        questions=questions.drop("name", "article", "modality", "of_image"),
    )


def _refuse_pickles(lists: Sequence[str]) -> None:
    for url in lists:
        if url.lower().removesuffix(".gz").endswith((".pkl", ".pickle")):
            raise DeliveryRefused(
                f"{url} is a pickle, which runs code when it is opened: convert it to JSON where "
                "you trust it, or take the Parquet release of the same data (--format hf-parquet)"
            )


def _recognised(url: str, encoding: str | None) -> tuple[Shape, QuestionLayout]:
    if url.lower().removesuffix(".gz").endswith(".txt"):
        shape = Shape("cut", "|", _CUT, encoding)
        first = first_record(url, shape)
        # 2019's training lists have question and answer; its test list has the category between.
        if first and first["answer"].count("|") == 1:
            shape = Shape("cut", "|", _CUT_WITH_CATEGORY, encoding)
    else:
        shape = shape_of(url, encoding)
        first = first_record(url, shape)
    for layout in LAYOUTS:
        if first and set(layout.recognised_by) <= set(first):
            return shape, layout
    raise DeliveryRefused(
        f"{url} is of no known layout ({', '.join(x.name for x in LAYOUTS)}); its first record has "
        f"{', '.join(first or ['nothing'])[:500]}"
    )


def _questions(rows: DataFrame, layout: QuestionLayout) -> DataFrame:
    """Questions with their own columns, and `name`, `article`, `modality`, `of_image` beside."""
    good = F.col("problem").isNull()
    line = F.concat(F.lit("line:"), F.col("line"))
    image = first_of(layout.image)
    columns = {
        c: first_of(layout.columns.get(c, ()))
        for c in ("question", "answer", "answer_type", "question_type", "language")
    }
    columns["language"] = F.coalesce(columns["language"], F.lit(layout.language))
    used = [layout.image, layout.record, *layout.columns.values()]
    of_image = F.map_filter("values", lambda k, _: k.isin(list(layout.of_image)))
    # Positions go on from list to list, so that one unit can hold several.
    order = F.struct("list", "position")
    return rows.select(
        "unit",
        order.alias("position"),
        F.when(good, F.coalesce(first_of(layout.record), image, line))
        .otherwise(line)
        .alias("record"),
        F.when(good, image).alias("figure_record"),
        *(F.when(good, c).alias(n) for n, c in columns.items()),
        F.when(good, _split(layout)).alias("published_split"),
        without(used).alias("fields"),
        F.when(good, image).alias("name"),
        F.when(good, first_of(layout.article)).alias("article"),
        F.when(good, first_of(layout.modality)).alias("modality"),
        F.when(good, of_image).alias("of_image"),
    )


def _split(layout: QuestionLayout) -> Column:
    if layout.split_column and layout.test_prefix:
        is_test = F.element_at("values", F.lit(layout.split_column)).startswith(layout.test_prefix)
        return F.when(is_test, "test").otherwise("train")
    in_name = split_in(F.element_at(F.split("list", "/"), -1))
    return F.coalesce(first_of(layout.columns.get("published_split", ())), in_name)


def _figures(
    questions: DataFrame, images: DataFrame, layout: QuestionLayout, request: Request
) -> DataFrame:
    """A row an image that a question names, and one for each other image that is there.

    Where SOURCE is a list, what else lies about it was not delivered.
    """
    fields = [(k, _agreed(F.element_at("of_image", F.lit(k)))) for k in layout.of_image]
    entries = F.array(*(F.struct(F.lit(k).alias("key"), v.alias("value")) for k, v in fields))
    filled = F.filter(entries, lambda e: e["value"].isNotNull())
    named = (
        questions.where("figure_record IS NOT NULL")
        .groupBy("unit", "name")
        .agg(
            F.min("position").alias("position"),
            # An article ties what is of one patient: one of several is better than none.
            F.min("article").alias("article_id"),
            _agreed(F.col("published_split")).alias("published_split"),
            _agreed(F.col("modality")).alias("modality"),
            (F.map_from_entries(filled) if fields else F.lit(None)).cast(_MAP).alias("fields"),
        )
    )
    rest = [c for c in named.columns if c not in ("unit", "name")]
    nothing = {c: F.lit(None).cast(named.schema[c].dataType) for c in rest}
    placed = locate(named.withColumn("problem", F.lit(None).cast("string")), images, request.limits)
    if request.is_folder or request.images:
        others = unnamed(images.where(F.lower("member").rlike(_IMAGE_FILE)), request.limits)
        others = others.join(
            placed.select("url", "member"), on=["url", "member"], how="left_anti"
        ).withColumns({"unit": F.lit(request.source), **nothing})
        placed = placed.unionByName(others)
    absent = ("caption", "patient_id", "licence")
    return placed.withColumns(
        {"record": F.col("name"), **{c: F.lit(None).cast("string") for c in absent}}
    )


def _agreed(column: Column) -> Column:
    """What all questions of an image say, NULL where they differ or one says nothing."""
    same = (F.min(column) == F.max(column)) & (F.count(column) == F.count(F.lit(1)))
    return F.when(same, F.min(column))

"""`roco`: ROCO's tab-separated lists, each of one column beside the figure's id, and its images.

`captions.txt` may lie in SOURCE or in folders below, as published: train/radiology and so on. Its
companions lie beside it; any of them may be missing, and each may be compressed with gzip. Images
may come with a later delivery.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.figures.delivered.lists import Shape, read_lists
from pipelines.figures.delivered.places import files_like, parent
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.layout import Layout, mapped, split_in
from pipelines.figures.formats.listed import listed, located

COMPANIONS = ("keywords", "licences", "cuis", "semtypes", "dlinks")
LAYOUT = Layout(
    name="roco",
    image=("id",),  # the image is called by the id, with some ending
    record=("id",),
    columns={"caption": ("caption",), "article_id": ("article",), "licence": ("licence",)},
)

_PLACES = tuple(
    f"{folder}captions.txt{gz}" for folder in ("", "*/", "*/*/", "*/*/*/") for gz in ("", ".gz")
)


def read(spark: SparkSession, request: Request) -> Delivered:
    """Raises UsageError where there is no captions.txt."""
    captions = (
        files_like(spark, request.source, *_PLACES) if request.is_folder else [request.source]
    )
    if not captions:
        raise UsageError(f"{request.source}: holds no captions.txt, captions.txt.gz, at any depth")
    rows = read_lists(spark, [(u, _shape(request, "\t", "caption")) for u in captions])
    companions = _companions(spark, captions)
    if companions:
        shapes = [
            (url, _shape(request, "," if kind == "licences" else "\t", kind))
            for url, (kind, _) in companions.items()
        ]
        rows = _joined(rows, read_lists(spark, shapes), companions)
    below = F.substring("list", len(parent(request.source)) + 1, 10_000)
    figures = mapped(rows, LAYOUT, split=split_in(below))
    units = {u: [u, *(p for p, (_, to) in companions.items() if to == u)] for u in captions}
    rows = located(spark, figures, request)
    return listed(spark, rows, request, [*captions, *companions], units=units)


def _shape(request: Request, delimiter: str, column: str) -> Shape:
    return Shape("cut", delimiter, ("id", column), request.encoding)


def _companions(spark: SparkSession, captions: list[str]) -> dict[str, tuple[str, str]]:
    """By URL: its kind, and the captions.txt that it belongs to."""
    return {
        path: (kind, url)
        for url in captions
        for kind in COMPANIONS
        for path in files_like(spark, parent(url), f"{kind}.txt", f"{kind}.txt.gz")
    }


def _joined(
    rows: DataFrame, others: DataFrame, companions: dict[str, tuple[str, str]]
) -> DataFrame:
    """`rows` with the values of their companions; ids that have no caption come as rows too."""
    kinds, owners = (
        F.create_map(*(F.lit(x) for url, of in companions.items() for x in (url, of[i])))
        for i in (0, 1)
    )
    values, of_list = F.col("values"), F.col("list")
    kind = F.element_at(kinds, of_list)
    beside = (
        others.select(
            F.element_at(owners, of_list).alias("list"),
            # A line of an id alone says no more than that there is such a figure.
            F.coalesce(values["id"], F.btrim(values["line"])).alias("id"),
            kind.alias("kind"),
            F.element_at(values, kind).alias("text"),
            "line",
        )
        .where("NOT (line = 1 AND kind = 'licences' AND id = 'ROCO_ID')")
        .groupBy("list", "id", "kind")
        .agg(F.max("text").alias("text"))
        .groupBy("list", "id")
        .agg(F.map_from_entries(F.collect_list(F.struct("kind", "text"))).alias("beside"))
    )
    licence = F.element_at("beside", F.lit("licences"))  # PMC5665693_some-name.jpg,CC BY
    found = {
        "id": F.col("id"),
        "article": F.regexp_extract(licence, r"^PMC\d+", 0),
        "licence": F.regexp_extract(licence, r",([^,]*)$", 1),
    }
    entries = F.array(
        *(F.struct(F.lit(k).alias("key"), v.alias("value")) for k, v in found.items())
    )
    own = F.filter(F.map_entries("values"), lambda e: e["key"] != "id")
    both = F.concat(entries, *(F.coalesce(e, F.array()) for e in (own, F.map_entries("beside"))))
    filled = F.filter(both, lambda e: F.coalesce(e["value"], F.lit("")) != "")
    joined = rows.withColumn("id", values["id"]).join(beside, on=["list", "id"], how="full")
    return joined.select(
        "list",
        F.coalesce("position", F.lit(1 << 40)).alias("position"),
        "line",
        F.map_from_entries(filled).alias("values"),
        "problem",
    )

"""`pmc-oa`: JSON lines of figures from PubMed Central's open access articles, and their images.

The names are those of PMC-OA (`image`, `caption`, with `url_name` or `alignment_type` in the beta
release), of its build's own files (`PMC_ID`, `media_name`, `media_url`) and of sets made after it.
"""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.figures.delivered.lists import Shape, first_record, read_lists, shape_of
from pipelines.figures.delivered.places import DeliveryRefused
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.layout import Layout, mapped, split_in
from pipelines.figures.formats.listed import listed, lists_of, located

LAYOUT = Layout(
    name="pmc-oa",
    image=("image", "image_path", "image_file", "file_name", "filename", "fig_path", "media_name"),
    columns={
        "caption": ("caption", "fig_caption", "figure_caption", "text"),
        "article_id": ("pmcid", "pmc_id", "PMC_ID", "PMCID", "article_id"),
        "licence": ("license", "licence", "license_type"),
        "published_split": ("split",),
        "modality": ("modality",),
    },
    article_pattern=r"PMC\d+",
)


def read(spark: SparkSession, request: Request) -> Delivered:
    """Raises DeliveryRefused where the first record of a list has no known name of an image."""
    lists = lists_of(spark, request, "*.jsonl", "*.jsonl.gz", "*.json", "*.json.gz")
    shapes: list[tuple[str, Shape]] = []
    for url in lists:
        shape = shape_of(url, request.encoding)
        if shape.kind not in ("jsonl", "json"):
            raise UsageError(f"{url} is no list of JSON: CSV goes to --format folder")
        first = first_record(url, shape)
        if first and not set(first) & {*LAYOUT.image, *LAYOUT.columns["caption"]}:
            raise DeliveryRefused(
                f"{url} has neither an image nor a caption that is known; its first record has "
                f"{', '.join(first)[:500]}. --format folder takes names by arguments"
            )
        shapes.append((url, shape))
    split = split_in(F.element_at(F.split("list", "/"), -1))
    rows = mapped(read_lists(spark, shapes), LAYOUT, split=split)
    return listed(spark, located(spark, rows, request), request, lists)

"""Figures on a schedule: a delivery that has landed becomes checked training tables.

Without postponed annotations, of which Dagster would see only the text.
"""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from pydantic import Field

from jobs.schedule.assets import check_spec, checked, key, lake, spec
from jobs.schedule.landing import SETTLED_S
from jobs.schedule.launch import POOL, RETRY, launch, metadata
from schemas import (
    FIGURE_CAPTIONS,
    FIGURE_DELIVERIES,
    FIGURE_GROUPS,
    FIGURE_IMAGES,
    FIGURE_PAIRS,
    FIGURE_QUESTIONS,
    FIGURES,
    IMAGE_CAPTIONS,
    IMAGE_CAPTIONS_REJECTED,
    QUESTIONS,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
)

# Formats that need no further arguments; `folder` wants its columns named, `dicom` a key.
_FORMATS = ("hf-parquet", "pmc-oa", "roco", "vqa", "webdataset")

_BRONZE = (FIGURES, QUESTIONS, FIGURE_DELIVERIES)
_MADE_FROM = (
    (FIGURE_CAPTIONS, (FIGURES,)),
    (FIGURE_IMAGES, (FIGURES, FIGURE_CAPTIONS)),
    (FIGURE_QUESTIONS, (QUESTIONS,)),
    (FIGURE_PAIRS, (FIGURE_IMAGES, FIGURE_CAPTIONS)),
    (FIGURE_GROUPS, (FIGURE_PAIRS,)),
    (IMAGE_CAPTIONS, (FIGURE_IMAGES, FIGURE_CAPTIONS, FIGURE_GROUPS)),
    (IMAGE_CAPTIONS_REJECTED, (FIGURE_IMAGES, FIGURE_CAPTIONS, FIGURE_GROUPS)),
    (VLM_EXAMPLES, (IMAGE_CAPTIONS,)),
    (VQA_EXAMPLES, (FIGURE_QUESTIONS, FIGURE_IMAGES, FIGURE_GROUPS)),
)
_CHECKED = (FIGURE_GROUPS, IMAGE_CAPTIONS, VLM_EXAMPLES)


class LandedFigures(dg.Config):
    """A delivery of figures that has landed."""

    path: str = Field(description="its full path, or any URL that ingest_figures takes")
    format: str = Field(description="of ingest_figures")
    arguments: list[str] = Field([], description="further arguments, such as --caption-column note")


@dg.multi_asset(
    name="ingest_figures",
    specs=[spec(table) for table in _BRONZE],
    retry_policy=RETRY,
    pool=POOL,
)
def ingest_figures(
    context: dg.AssetExecutionContext, config: LandedFigures
) -> Iterator[dg.MaterializeResult[None]]:
    """One delivery into bronze. One that is refused changes no table."""
    where = ("--format", config.format, "--lake", lake())
    line = launch(context, "ingest_figures", config.path, *where, *config.arguments)
    for table in _BRONZE:
        yield dg.MaterializeResult(key(table), metadata=metadata(line))


@dg.multi_asset(
    name="prepare_captions",
    specs=[spec(table, *made_from) for table, made_from in _MADE_FROM],
    check_specs=[check_spec(table) for table in _CHECKED],
    retry_policy=RETRY,
    pool=POOL,
)
def prepare_captions(
    context: dg.AssetExecutionContext,
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """New figures become examples. Where a split would leak, no training table changes."""
    page = Path(os.environ.get("QUALITY_DOCS", "quality")) / "captions.html"
    line = launch(context, "prepare_captions", "--lake", lake(), "--page", str(page))
    for table, _ in _MADE_FROM:
        yield dg.MaterializeResult(key(table), metadata=metadata(line))
    for table in _CHECKED:
        yield checked(context, table)


figures_job = dg.define_asset_job(
    "landed_figures_to_examples",
    dg.AssetSelection.assets(ingest_figures, prepare_captions),
    description="One delivery of figures into bronze, then all stages, then checks.",
)


@dg.sensor(
    job=figures_job, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING
)
def landed_figures(
    context: dg.SensorEvaluationContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """A run for each delivery FORMAT/NAME in the landing folder; one that grew is another one."""
    folder = Path(os.environ.get("LANDING_FIGURES", "landing-figures"))
    if not folder.is_dir():
        yield dg.SkipReason(f"no folder {folder.resolve()}: make it, or set LANDING_FIGURES")
        return
    settled = time.time() - SETTLED_S
    for format_ in _FORMATS:
        for path in sorted((folder / format_).glob("[!._]*")):
            files = [path, *path.rglob("*")] if path.is_dir() else [path]
            found = [f.stat() for f in files if f.exists()]  # a link may lead nowhere
            newest = max((f.st_mtime for f in found), default=math.inf)
            if newest > settled:
                continue
            config = {"path": str(path.resolve()), "format": format_}
            yield dg.RunRequest(
                run_key=f"{format_}/{path.name}:{sum(f.st_size for f in found)}:{newest}",
                run_config={"ops": {"ingest_figures": {"config": config}}},
            )

"""Figures become rows of silver.figure_images, and one that kills its decoder takes one row."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from pipelines.figures.images import Parts, images_of
from schemas import FIGURE_IMAGES
from schemas.frames import frame_of
from tests.made_images import files_of_every_kind, saved, smooth
from udfs.images.parts import Part, Rules, parts_of

pytestmark = pytest.mark.slow

_FIGURE = (
    "figure_id bigint, revision bigint, image binary, sha256 string, format string, "
    "panel_captions array<string>"
)
_MAX_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"


def _figures(spark: SparkSession, images: list[bytes | None]) -> DataFrame:
    rows: list[tuple[Any, ...]] = [
        (n, n * 10, image, image and hashlib.sha256(image).hexdigest(), "folder", [])
        for n, image in enumerate(images)
    ]
    return frame_of(spark, rows, _FIGURE)


def _rows(parts: DataFrame) -> list[Row]:
    return sorted(parts.collect(), key=lambda r: (r.figure_id, r.part))


def test_rows_are_those_of_the_table(spark: SparkSession) -> None:
    images = [*files_of_every_kind().values(), None, b"", b"no image"]

    parts = images_of(_figures(spark, images), longest_side_px=32)
    rows = _rows(parts.withColumn("id", F.xxhash64("figure_id", "part")))

    assert not FIGURE_IMAGES.mismatches(parts.schema)
    assert parts.columns == [c.name for c in FIGURE_IMAGES.columns]
    assert [r.figure_id for r in rows] == list(range(len(images)))
    assert all(r.example_id == r.id and r.revision == r.figure_id * 10 for r in rows)
    assert [r.reasons for r in rows[-3:]] == [["missing_image"], ["empty_file"], ["not_an_image"]]
    for row, image in zip(rows[:-3], images, strict=False):
        assert row.reasons == []
        assert (row.part, row.kind, row.width, row.height) == (0, "whole", 32, 24)
        assert row.sha256 == hashlib.sha256(image or b"").hexdigest()
        assert row.image.startswith(b"\xff\xd8\xff")


def test_a_compound_figure_becomes_its_panels(spark: SparkSession) -> None:
    figure = Image.new("L", (420, 200), 255)
    for i, x in enumerate((0, 220)):
        figure.paste(smooth(i, 200, 200, gray=True).point(lambda v: v // 2), (x, 0))
    image = saved(figure, "PNG")
    rows = [(n, 1, image, "0" * 64, "folder", c) for n, c in enumerate((["a", "b"], ["a"], None))]

    parts = _rows(images_of(frame_of(spark, rows, _FIGURE)))

    assert [(p.figure_id, p.part, p.kind, p.width, p.panels_seen) for p in parts] == [
        (0, 1, "panel", 200, 2),
        (0, 2, "panel", 200, 2),
        (1, 0, "whole", 420, 2),
        (2, 0, "whole", 420, 2),
    ]
    assert parts[0].source_width == 420


def _kills_or_hangs() -> Parts:
    """`parts_of`, but for two images; nested, so that workers get the function itself."""

    def parts(content: bytes | None, delivered_as: str, panels: int, rules: Rules) -> list[Part]:
        if content == b"segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if content == b"hang":
            time.sleep(3600)
        return parts_of(content, delivered_as, panels, rules)

    return parts


def test_an_image_that_kills_or_hangs_its_decoder_is_one_rejected_row(spark: SparkSession) -> None:
    good = saved(smooth(1), "JPEG")
    figures = _figures(spark, [good, b"hang", good, b"segfault", good, b"segfault"])

    rows = _rows(images_of(figures, time_limit_s=3, parts=_kills_or_hangs()))

    assert [r.reasons for r in rows] == [
        [],
        ["decoder_hangs"],
        [],
        ["crashes_decoder"],
        [],
        ["crashes_decoder"],
    ]


@pytest.fixture
def small_batches(spark: SparkSession) -> Iterator[None]:
    before = spark.conf.get(_MAX_BYTES)
    spark.conf.set(_MAX_BYTES, "100k")
    yield
    spark.conf.set(_MAX_BYTES, str(before))


@pytest.mark.usefixtures("small_batches")
def test_a_batch_is_bounded_by_its_bytes(spark: SparkSession) -> None:
    """What the module's docstring says of Spark's setting holds for `mapInArrow`."""
    figures = _figures(spark, [bytes(60_000)] * 20)

    def sizes(batches: Any) -> Any:
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows]})

    found = figures.select("image").mapInArrow(sizes, "rows bigint").collect()

    assert max(r["rows"] for r in found) <= 2


@pytest.mark.parametrize(
    "wrong",
    [{"encoding": "gif"}, {"quality": 0}, {"quality": 101}, {"longest_side_px": 7}],
    ids=str,
)
def test_wrong_arguments_are_refused(spark: SparkSession, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"encoding|quality"):
        images_of(_figures(spark, []), **wrong)


def test_real_figures_go_through(spark: SparkSession, shared_data: Path) -> None:
    medical = shared_data / "medical"
    if not medical.is_dir():
        pytest.skip(f"no medical images in {shared_data}")
    files = sorted(p for p in medical.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))

    figures = _figures(spark, [p.read_bytes() for p in files]).repartition(2)
    rows = _rows(images_of(figures))

    assert len(rows) == len(files) == 353
    assert Counter(tuple(r.reasons) for r in rows) == {(): 353}
    assert all(
        max(r.width, r.height) == min(512, max(r.source_width, r.source_height)) for r in rows
    )
    # Every picture is another one, and far from the others (see docs/figures-panels.md on panels).
    assert len({r.phash for r in rows}) > 345
    assert sum(r.panels_seen > 1 for r in rows) <= 10

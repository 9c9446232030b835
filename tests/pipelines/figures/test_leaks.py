"""What published splits leak, by the real question files."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from schemas.frames import frame_of
from tests.split_leaks import leaks, split_by_row

pytestmark = pytest.mark.slow


def test_vqa_rad_has_its_test_images_in_training(spark: SparkSession, shared_data: Path) -> None:
    with (shared_data / "medical" / "vqa_rad" / "split.csv").open(newline="") as file:
        rows = [(int(r["row"]), r["image_name"], r["split"]) for r in csv.DictReader(file)]
    frame = frame_of(spark, rows, "row BIGINT, image STRING, split STRING")
    found = leaks(frame, split="split", together="image").first()
    assert found is not None
    assert found["parts"] == ["test", "train"]
    assert (found["rows"], found["test_rows"]) == (2248, 451)
    assert (found["test_things"], found["leaked_test_things"]) == (203, 202)

    by_row = frame.withColumn("split", split_by_row("row", (0.8, 0.0, 0.2)))
    leaked = leaks(by_row, split="split", together="image").first()
    by_image = frame.withColumn("split", split_by_row("image", (0.8, 0.0, 0.2)))
    none = leaks(by_image, split="split", together="image").first()
    assert leaked is not None
    assert none is not None
    assert leaked["leaked_test_things"] / leaked["test_things"] > 0.9
    assert none["straddling"] == none["leaked_test_rows"] == 0
    assert none["test_things"] > 30


def test_the_two_languages_of_slake_contradict_each_other(
    spark: SparkSession, shared_data: Path
) -> None:
    rows = []
    for part in ("train", "validate", "test"):
        with gzip.open(shared_data / "medical" / "slake_text" / f"{part}.json.gz") as file:
            rows += [(r["img_id"], r["q_lang"], part) for r in json.load(file)]
    frame = frame_of(spark, rows, "image BIGINT, language STRING, split STRING")

    def leaked(zh: str, en: str) -> int:
        """Images of a part of the Chinese list in a part of the English one."""
        two = frame.where(
            f"language = 'zh' AND split = '{zh}' OR language = 'en' AND split = '{en}'"
        )
        found = leaks(two, split="split", together="image").first()
        assert found is not None
        return int(found["straddling"])

    assert leaked("train", "test") == 72
    assert leaked("test", "train") == 70
    for language in ("zh", "en"):  # each on its own is sound
        found = leaks(frame.where(f"language = '{language}'"), split="split", together="image")
        assert found.first()["straddling"] == 0  # type: ignore[index]

"""Copies of real images and their captions become pairs, batch by batch."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from pipelines.figures.pairs import pairs_of
from pipelines.figures.verification import verified
from schemas.frames import frame_of
from tests.copied_images import copies, jpeg, normalised, real_images
from udfs.images.phash import phash

pytestmark = pytest.mark.slow

EXAMPLES = "example_id BIGINT, kind STRING, part INT, sha256 STRING, phash BIGINT, caption STRING"
IMAGES = "example_id BIGINT, image BINARY"


def phash_of(image: bytes) -> int:
    with Image.open(BytesIO(image)) as opened:
        return phash(np.asarray(opened.convert("L")))


def example(example_id: int, image: bytes, **fields: Any) -> tuple[Any, ...]:
    row = {"kind": "whole", "part": 0, "sha256": f"{example_id:064x}", "caption": None, **fields}
    return (example_id, row["kind"], row["part"], row["sha256"], phash_of(image), row["caption"])


@pytest.mark.slow
def test_copies_of_real_images_are_found(spark: SparkSession, shared_data: Path) -> None:
    # Every fifth of the real images: 71, with 8 copies each. Ids of one image have one tens.
    images: dict[int, bytes] = {}
    for i, path in enumerate(real_images(shared_data)[::5]):
        image = normalised(path)
        images[i * 10] = jpeg(image)
        images |= {i * 10 + n: copy for n, (_, copy) in enumerate(copies(image), 1)}
    old = [example(i, image) for i, image in images.items() if i % 10 == 0]
    new = [example(i, image) for i, image in images.items() if i % 10]
    found = pairs_of(
        frame_of(spark, new, EXAMPLES),
        frame_of(spark, list(images.items()), IMAGES),
        frame_of(spark, old, EXAMPLES),
    ).collect()
    assert all(row["kind"] == "image" and row["difference"] <= 0.25 for row in found)
    assert all(row["example_id"] // 10 == row["other_id"] // 10 for row in found)
    with_original = {row["other_id"] for row in found if row["example_id"] % 10 == 0}
    assert len(with_original) / len(new) >= 0.98
    assert not any(row["example_id"] % 10 == row["other_id"] % 10 == 0 for row in found)


def picture(seed: int, brightness: float = 1.0) -> bytes:
    """A soft pattern, as PNG."""
    values = np.random.default_rng(seed).integers(40, 160, (6, 6)).astype(np.uint8)
    image = Image.fromarray(values).resize((96, 96), Image.Resampling.BICUBIC)
    out = BytesIO()
    image.point(lambda v: min(255, int(v * brightness))).save(out, "PNG")
    return out.getvalue()


def test_a_hash_alone_makes_no_pair(spark: SparkSession) -> None:
    images = [(1, picture(1)), (2, picture(1, 1.4)), (3, picture(2)), (4, None)]
    pairs = [(1, 2, 0), (1, 3, 0), (2, 3, 0), (1, 4, 0), (1, 9, 0)]  # 9 is gone, 4 has no image
    kept = verified(
        frame_of(spark, pairs, "id BIGINT, other_id BIGINT, distance INT"),
        frame_of(spark, images, "id BIGINT, image BINARY"),
    ).collect()
    assert [(row["id"], row["other_id"], row["distance"]) for row in kept] == [(1, 2, 0)]
    assert kept[0]["difference"] < 0.1


def test_each_kind_of_pair(spark: SparkSession) -> None:
    a, b, c = picture(1), picture(2), picture(3)
    rows = [
        example(1, a, sha256="same"),
        example(2, a, sha256="same"),
        example(3, b, sha256="same", part=1, kind="panel"),  # another part of the same file
        example(4, b, caption="Chest X-ray."),
        example(5, c, caption="chest x-ray"),
    ]
    images = frame_of(spark, [(1, a), (2, a), (3, b), (4, b), (5, c)], IMAGES)
    found = pairs_of(frame_of(spark, rows, EXAMPLES), images).collect()
    assert sorted((r["example_id"], r["other_id"], r["kind"]) for r in found) == [
        (1, 2, "bytes"),
        (1, 2, "image"),
        (3, 4, "image"),
        (4, 5, "caption"),
    ]


def test_nothing_new_makes_no_pairs(spark: SparkSession) -> None:
    old = frame_of(spark, [example(1, picture(1)), example(2, picture(1))], EXAMPLES)
    new = frame_of(spark, [], EXAMPLES)
    assert pairs_of(new, frame_of(spark, [], IMAGES), old).collect() == []

"""Gold tables of training as Delta files, written without Spark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import simplejpeg
from deltalake import WriterProperties, write_deltalake

SIDE_PX = 32


def square(shade: int, side_px: int = SIDE_PX) -> bytes:
    """A JPEG file of one shade of gray."""
    pixels = np.full((side_px, side_px, 3), shade, np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=90))


def write_vqa(
    folder: Path,
    count: int,
    *,
    files: int = 4,
    group_rows: int = 16,
    side_px: int = SIDE_PX,
    words: int = 1,
) -> None:
    """gold.vqa_examples: `count` questions about gray squares; example i is of shade 8 i % 256.

    Every tenth has no image. A question has `words` words, or up to seven times as many. Splits: of
    ten examples 8 train, 1 validation, 1 test; folds i % 5. Types of questions: of
    three none, plane and presence.
    """
    ids = np.arange(count)
    images = [None if i % 10 == 9 else square(8 * i % 256, side_px) for i in ids.tolist()]
    split = np.array(["train"] * 8 + ["validation", "test"])[ids % 10]
    for file in range(files):
        mine = ids[file::files]
        rows = pa.table(
            {
                "example_id": pa.array(mine, pa.int64()),
                "image": pa.array([images[i] for i in mine], pa.binary()),
                "image_id": pa.array(mine, pa.int64()),
                "question": pa.array(["why " * words * (1 + i % 7) + "?" for i in mine.tolist()]),
                "answer": pa.array([f"answer {i}" for i in mine.tolist()]),
                "closed": pa.array(mine % 2 == 0),
                "question_type": pa.array([(None, "plane", "presence")[i % 3] for i in mine]),
                "modality": pa.array(["ct"] * len(mine)),
                "split": pa.array(split[mine]),
                "fold": pa.array((mine % 5).astype(np.int32)),
                "published_split": pa.array(split[mine]),
            }
        )
        groups = WriterProperties(max_row_group_size=group_rows)
        write_deltalake(str(folder), rows, mode="append", writer_properties=groups)

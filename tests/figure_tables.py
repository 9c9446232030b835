"""The tables of a run on made figures, filled from the truth about them: what a page is drawn from.

Simpler than the pipeline and independent of it: images are opened with Pillow, and who copies whom
is what the generator says.
"""

from __future__ import annotations

import html
import io
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
from PIL import Image
from pyspark.sql import DataFrame, SparkSession

from pipelines.figures.made.figure import Figure, made_figures
from pipelines.figures.made.plan import Order
from pipelines.figures.page_data import Tables
from schemas import figures as s
from schemas.frames import frame_of
from schemas.table import Table

Rows = list[dict[str, Any]]
_AT = datetime(2026, 1, 1, tzinfo=UTC)
_CAPTION_REASONS = {
    "placeholder": "placeholder", "empty": "no_caption", "file_name": "file_name",
    "german": "not_english", "french": "not_english", "chinese": "not_english",
}  # fmt: skip


def frame(spark: SparkSession, table: Table, rows: Iterable[dict[str, Any]]) -> DataFrame:
    """Rows of a table; columns that a row does not name are NULL."""
    names = [c.name for c in table.columns]
    return frame_of(spark, [[row.get(n) for n in names] for row in rows], table.struct)


def empty_tables(spark: SparkSession) -> Tables:
    return _tables(spark, defaultdict(list))


def _tables(spark: SparkSession, rows: dict[str, Rows]) -> Tables:
    return Tables(
        figures=frame(spark, s.FIGURES, rows["figures"]),
        captions=frame(spark, s.FIGURE_CAPTIONS, rows["captions"]),
        images=frame(spark, s.FIGURE_IMAGES, rows["images"]),
        pairs=frame(spark, s.FIGURE_PAIRS, rows["pairs"]),
        groups=frame(spark, s.FIGURE_GROUPS, rows["groups"]),
        accepted=frame(spark, s.IMAGE_CAPTIONS, rows["accepted"]),
        rejected=frame(spark, s.IMAGE_CAPTIONS_REJECTED, rows["rejected"]),
        vlm=frame(spark, s.VLM_EXAMPLES, rows["vlm"]),
        vqa=frame(spark, s.VQA_EXAMPLES, rows["vqa"]),
    )


def tables_of(spark: SparkSession, rows: dict[str, Rows]) -> Tables:
    return _tables(spark, defaultdict(list, rows))


def made_rows(order: Order, count: int) -> dict[str, Rows]:
    """Rows by table; figure and example ids are the figures' numbers."""
    rows: dict[str, Rows] = defaultdict(list)
    made = list(made_figures(order, 0, count))
    root = {f.number: f.number if f.copy_of is None else f.copy_of for f in made}
    known = {f.number: _opened(f.image) for f in made}
    groups = _groups(made)
    kept: dict[int, int] = {}
    for f in made:
        if known[f.number][0] and f.caption_dirt not in _CAPTION_REASONS:
            kept.setdefault(root[f.number], f.number)
    for f in made:
        own = kept.get(root[f.number])
        _add(rows, f, known[f.number], root[f.number], groups[f.number], own)
    return rows


def _groups(made: list[Figure]) -> dict[int, int]:
    """The least number of all that an article, a patient or a copy ties together."""
    group = {f.number: f.number for f in made}
    ties: dict[str, int] = {}
    for _ in range(len(made)):
        before = dict(group)
        for f in made:
            names = [
                f"article {f.article_id}",
                f"copy {f.number if f.copy_of is None else f.copy_of}",
            ]
            names += [f"patient {f.patient_id}"] if f.patient_id else []
            least = min(group[f.number], *(ties.get(n, f.number) for n in names))
            group[f.number] = least
            ties |= dict.fromkeys(names, least)
        if group == before:
            break
    return group


def made_tables(spark: SparkSession, order: Order, count: int) -> Tables:
    return _tables(spark, made_rows(order, count))


def _opened(data: bytes | None) -> tuple[Image.Image | None, str | None]:
    """The image in 8 bits, or why there is none."""
    if data is None:
        return None, "missing_image"
    if not data:
        return None, "empty_file"
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
    except Image.DecompressionBombError:
        return None, "too_many_pixels"
    except OSError as e:
        return None, "truncated" if "truncated" in str(e) else "not_an_image"
    if image.mode in ("I;16", "F"):
        values = np.asarray(image, dtype=float)
        image = Image.fromarray((values / max(values.max(), 1) * 255).astype(np.uint8))
    image = image.convert("RGB" if image.mode not in ("L", "RGB") else image.mode)
    if min(image.size) < 8:
        return None, "too_small"
    if len(set(np.atleast_2d(image.getextrema()).ravel().tolist())) == 1:
        return None, "blank"
    return image, None


def _add(
    rows: dict[str, Rows],
    f: Figure,
    opened: tuple[Image.Image | None, str | None],
    root: int,
    group: int,
    kept: int | None,
) -> None:
    image, why_image = opened
    why_caption = _CAPTION_REASONS.get(f.caption_dirt or "")
    caption = None if why_caption else html.unescape(f.caption or "")
    of_group = (("train",) * 8 + ("validation", "test"))[group % 10]
    same: dict[str, Any] = {
        "figure_id": f.number,
        "part": 0,
        "example_id": f.number,
        "revision": 1,
        "source": "made",
        "sha256": None if f.image is None else sha256(f.image).hexdigest(),
        "licence": f.licence,
        "modality": f.modality,
        "group_id": group,
        "split": of_group,
        "fold": group % 5,
        "near_vqa": f.number % 40 == 3,
        "compound": f.panels > 1,
        "order_key": f.number,
    }
    data = None
    if image is not None:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        data = out.getvalue()
        same |= {"width": image.width, "height": image.height, "entropy": 6.0}
    reasons = sorted(r for r in (why_image, why_caption) if r)
    duplicate_of = kept if kept is not None and kept != f.number and f.copy_of is not None else None
    if duplicate_of is not None and not reasons:
        reasons = ["duplicate"]
    rows["figures"].append(
        same
        | {"record": f.name, "format": "webdataset", "member": f.name, "image": f.image,
           "caption": f.caption, "article_id": f.article_id, "patient_id": f.patient_id,
           "delivery_id": "0" * 64, "delivered_at": _AT}
    )  # fmt: skip
    rows["captions"].append(
        same
        | {"caption": caption, "mended": [], "panel_captions": [],
           "reasons": [why_caption] if why_caption else []}
    )  # fmt: skip
    rows["images"].append(
        same
        | {"kind": "whole", "image": data, "reasons": [why_image] if why_image else [],
           "source_width": same.get("width"), "source_height": same.get("height")}
    )  # fmt: skip
    rows["groups"].append(same | {"copies_id": root, "duplicate_of": duplicate_of, "reasons": []})
    if f.copy_of is not None:
        kind = {"bytes": "bytes", "caption": "caption"}.get(f.copy or "", "image")
        rows["pairs"].append(
            {"example_id": f.copy_of, "other_id": f.number, "kind": kind,
             "distance": {"bytes": 0, "image": f.number % 6}.get(kind),
             "similarity": 0.9 if kind == "caption" else None}
        )  # fmt: skip
    if reasons:
        rows["rejected"].append(same | {"reasons": reasons, "duplicate_of": duplicate_of})
        return
    rows["accepted"].append(same | {"image": data, "caption": caption})
    if not same["near_vqa"]:
        rows["vlm"].append(same | {"image": data, "text": caption})

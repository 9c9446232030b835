"""The parts of one figure: decoded, cut, brought to size, measured, encoded; or why not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from udfs.images.decode import Limits, Picture, Rejected, decode
from udfs.images.measures import entropy_bits, histogram, is_blank
from udfs.images.normalised import encode, gray_of, normalised
from udfs.images.panels import panel_boxes
from udfs.images.phash import phash
from udfs.images.resized import RESIZER

DICOM = "dicom"


@dataclass(frozen=True)
class Rules:
    """What parts are to be: the longest side at most, "jpeg" with its quality or "png"."""

    longest_side_px: int = 512
    encoding: str = "jpeg"
    quality: int = 90
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Part:
    """One row of silver.figure_images, but for the figure's own columns; same names, same units."""

    part: int = 0
    kind: str = "whole"
    image: bytes | None = None
    width: int | None = None
    height: int | None = None
    source_width: int | None = None
    source_height: int | None = None
    source_format: str | None = None
    source_mode: str | None = None
    entropy: float | None = None
    phash: int | None = None
    panels_seen: int | None = None
    codecs: str | None = None
    reasons: tuple[str, ...] = ()


def parts_of(
    content: bytes | None, delivered_as: str, panel_captions: int, rules: Rules
) -> list[Part]:
    """The whole figure, or its panels, or its frames; where nothing decodes, one part with why.

    `delivered_as` is the mapping that read it, of which only "dicom" matters here;
    `panel_captions` is how many panels the caption names. A compound figure is cut where as many
    panels are seen, else it is kept whole and `panels_seen` tells.
    """
    if content is None:
        return [Part(reasons=("missing_image",))]
    try:
        if delivered_as == DICOM:
            return _frames(content, rules)
        # Panels are cut from the source's own pixels, a whole figure needs fewer.
        enough_px = rules.longest_side_px if panel_captions < 2 else None
        picture = decode(content, enough_px=enough_px, limits=rules.limits)
    except Rejected as e:
        return [Part(reasons=(e.reason,))]
    if panel_captions < 2:
        return [_part(picture, picture.pixels, 0, "whole", rules, None)]
    boxes = panel_boxes(gray_of(picture.pixels))
    if len(boxes) != panel_captions:
        return [_part(picture, picture.pixels, 0, "whole", rules, len(boxes))]
    return [
        _part(picture, box.cut_from(picture.pixels), number, "panel", rules, len(boxes))
        for number, box in enumerate(boxes, start=1)
    ]


def _frames(content: bytes, rules: Rules) -> list[Part]:
    from udfs.images.dicom import iter_frames  # imports pydicom, which nothing else needs

    # One frame at a time is held as pixels; if a later one cannot be drawn, none of them is kept.
    parts = [
        _part(frame, frame.pixels, number, "frame", rules, 1)
        for number, frame in enumerate(iter_frames(content), start=1)
    ]
    return [replace(parts[0], part=0, kind="whole")] if len(parts) == 1 else parts


def _part(
    picture: Picture, pixels: np.ndarray, part: int, kind: str, rules: Rules, panels: int | None
) -> Part:
    """One part of a picture; without `panels` they are counted."""
    whole = (picture.source_height_px, picture.source_width_px) if kind == "whole" else None
    small = normalised(pixels, rules.longest_side_px, whole)
    gray = gray_of(small)
    counts = histogram(gray)
    height, width = gray.shape
    entropy = entropy_bits(counts)
    seen = Part(
        part,
        kind,
        source_width=picture.source_width_px,
        source_height=picture.source_height_px,
        source_format=picture.source_format,
        source_mode=picture.source_mode,
        panels_seen=panels or len(panel_boxes(gray)),
    )
    try:
        rules.limits.check(width, height)
    except Rejected as e:
        return replace(seen, reasons=(e.reason,))
    if is_blank(counts, entropy):
        return replace(seen, reasons=("blank",))
    image, encoder = encode(small, rules.encoding, rules.quality)
    resizer = () if small.shape[:2] == pixels.shape[:2] else (RESIZER,)
    return replace(
        seen,
        image=image,
        width=width,
        height=height,
        entropy=entropy,
        phash=phash(gray),
        codecs=", ".join((picture.codec, *resizer, encoder)),
    )

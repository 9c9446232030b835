"""One made figure by its number, with the truth about it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.figures.made import copies, dirt
from pipelines.figures.made.canvas import Pixels
from pipelines.figures.made.draw import draw, jpeg, png
from pipelines.figures.made.plan import Order, Role, original, provenance, role
from pipelines.figures.made.scenes import Scene, scene
from pipelines.figures.made.words import caption, cluttered, nearly

_IMAGE_CHANGES = {**dirt.IMAGE_DIRT, **dirt.IMAGE_FLAWS}
_CAPTION_CHANGES = {**dirt.CAPTION_DIRT, **dirt.CAPTION_FLAWS}
_PNG_SHARE = {"chart": 0.6, "cells": 0.05}


@dataclass(frozen=True)
class Figure:
    """A figure as it is delivered, and after `licence` the truth about it.

    `image` is None where the file is missing. `panels` is 1 where there are no panels; `modality`
    is None where they differ. `copy_of` is the number of the figure that this is a copy of and
    `copy` says in which way; `image_dirt` and `caption_dirt` name what is odd. `facts` is JSON.
    """

    number: int
    name: str
    image: bytes | None
    caption: str | None
    article_id: str
    patient_id: str | None
    licence: str
    kind: str
    modality: str | None
    panels: int
    copy_of: int | None
    copy: str | None
    image_dirt: str | None
    caption_dirt: str | None
    facts: str


def made_figures(order: Order, start: int, end: int) -> Iterator[Figure]:
    """The figures with the numbers from `start` to before `end`."""
    return (made_figure(order, number) for number in range(start, end))


def made_figure(order: Order, number: int) -> Figure:
    """The figure with this number; `name` has its number, the article and the figure's place."""
    what = role(order, number)
    shown, is_copy = number, what.what == "copy"
    if is_copy:
        found = original(order, number)
        if found is None:
            what, is_copy = Role(), False
        else:
            shown = found
    seen = scene_of(order, shown)
    ending, image = _image(order, number, shown, seen, what)
    where = provenance(order, number)
    name = f"{where.article}_Fig{where.figure}_{number:09d}.{ending}"
    return Figure(
        number=number,
        name=name,
        image=image,
        caption=_caption(order, number, shown, seen, what, name, where.figure),
        article_id=where.article,
        patient_id=where.patient,
        licence=where.licence,
        kind=seen.kind,
        modality=seen.modality,
        panels=max(1, len(seen.panels)),
        copy_of=shown if is_copy else None,
        copy=what.sort if is_copy else None,
        image_dirt=what.sort if what.what == "image" else None,
        caption_dirt=what.sort if what.what == "caption" else None,
        facts=facts_json(seen),
    )


def scene_of(order: Order, number: int) -> Scene:
    """What an original shows."""
    return scene(_chance(order, number, "scene"), order.compound_share)


def pixels_of(order: Order, number: int, shown: Scene) -> Pixels:
    """The drawing of a scene under a number."""
    return draw(shown, np.random.Generator(np.random.SFC64((order.seed, number, 3))))


def facts_json(shown: Scene) -> str:
    """The facts of a scene, those of panels as a list."""
    facts = [dict(panel.facts) for panel in shown.panels] or dict(shown.facts)
    return json.dumps(facts, sort_keys=True)


def _chance(order: Order, number: int, use: str) -> random.Random:
    """A stream of its own for each use, so that one does not shift another."""
    return random.Random(f"{order.seed}/{number}/{use}")


def _image(
    order: Order, number: int, shown: int, seen: Scene, what: Role
) -> tuple[str, bytes | None]:
    if what.sort == copies.CAPTION and what.what == "copy":
        return _encoded(order, number, seen, pixels_of(order, number, seen))
    pixels = pixels_of(order, shown, seen)
    rnd = _chance(order, number, "image")
    if what.what == "image":
        return _IMAGE_CHANGES[what.sort](pixels, number, rnd)
    if what.what == "copy" and what.sort != copies.BYTES:
        changed = copies.PIXEL_COPIES[what.sort](pixels, rnd)
        if rnd.random() < 0.15:
            return "png", png(changed)
        return "jpg", jpeg(changed, rnd.randint(55, 79))
    return _encoded(order, shown, seen, pixels)


def _encoded(order: Order, number: int, seen: Scene, pixels: Pixels) -> tuple[str, bytes]:
    rnd = _chance(order, number, "encoding")
    if rnd.random() < _PNG_SHARE.get(seen.kind, 0.0):
        return "png", png(pixels)
    return "jpg", jpeg(pixels, rnd.randint(80, 94))


def _caption(
    order: Order, number: int, shown: int, seen: Scene, what: Role, name: str, figure: int
) -> str | None:
    if what.what == "copy" and what.sort == copies.CAPTION:
        text = nearly(
            caption(seen, _chance(order, shown, "words")), _chance(order, number, "words")
        )
    else:
        text = caption(seen, _chance(order, number, "words"))
    if what.what == "caption":
        return _CAPTION_CHANGES[what.sort](text, name, _chance(order, number, "dirt"))
    return cluttered(text, seen.facts, figure, _chance(order, number, "clutter"))

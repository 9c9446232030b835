"""What a made figure shows: a kind and the facts that its drawing and its caption share."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Fact = str | int

MODALITY = {
    "chest": "xray",
    "abdomen": "ct",
    "brain": "ct",
    "head": "mri",
    "sonogram": "ultrasound",
    "body": "nuclear",
    "retina": "fundus",
    "cells": "microscopy",
    "chart": "chart",
}
"""Each kind of drawing and its modality, of schemas.figures.MODALITIES."""

_WEIGHTS = {
    "chest": 18, "abdomen": 15, "brain": 8, "head": 15, "sonogram": 11, "body": 4, "retina": 4,
    "cells": 13, "chart": 12,
}  # fmt: skip
STAINS = ("hematoxylin and eosin", "Giemsa", "DAPI")
_MEASURES = (
    "survival", "serum creatinine", "tumor volume", "relapse rate", "C-reactive protein",
    "ejection fraction", "viral load",
)  # fmt: skip
BAR_COLOURS = ("blue", "orange", "green", "red", "purple", "gray")


@dataclass(frozen=True)
class Scene:
    """One image without panels, or a compound one with 2 to 6 of them."""

    kind: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    panels: tuple[Scene, ...] = ()

    @property
    def modality(self) -> str | None:
        """None where the panels differ in theirs."""
        kinds = {MODALITY[s.kind] for s in self.panels or (self,)}
        return kinds.pop() if len(kinds) == 1 else None


def scene(rnd: random.Random, compound_share: float) -> Scene:
    """A scene by chance; with `compound_share` one with 2 to 6 panels."""
    if rnd.random() >= compound_share:
        return _one(rnd, rnd.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0])
    first = rnd.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]
    kinds = [first] + [
        first if rnd.random() < 0.8 else rnd.choice(tuple(_WEIGHTS))
        for _ in range(rnd.choices((1, 2, 3, 4, 5), (42, 18, 26, 4, 10))[0])
    ]
    dark = "yes" if rnd.random() < 0.12 else "no"
    lettered = "yes" if rnd.random() < 0.7 else "no"
    panels = tuple(_one(rnd, kind) for kind in kinds)
    return Scene("compound", {"dark gutters": dark, "lettered": lettered}, panels)


def _one(rnd: random.Random, kind: str) -> Scene:
    return Scene(kind, _FACTS[kind](rnd))


def _person(rnd: random.Random) -> dict[str, Fact]:
    return {"age": rnd.randint(19, 92), "sex": rnd.choice(("man", "woman"))}


def _side(rnd: random.Random) -> str:
    return rnd.choice(("right", "left"))


def _chest(rnd: random.Random) -> dict[str, Fact]:
    finding = rnd.choices(("nodule", "effusion", "consolidation", "none"), (4, 3, 3, 2))[0]
    return {
        **_person(rnd),
        "view": rnd.choices(("posteroanterior", "anteroposterior"), (7, 3))[0],
        "finding": finding,
        "side": _side(rnd),
        "zone": "lower" if finding == "effusion" else rnd.choice(("upper", "middle", "lower")),
        "size_mm": rnd.randint(9, 44) if finding == "nodule" else rnd.randint(35, 80),
    }


def _abdomen(rnd: random.Random) -> dict[str, Fact]:
    organ = rnd.choices(("liver", "spleen", "right kidney", "left kidney"), (5, 2, 2, 2))[0]
    return {
        **_person(rnd),
        "organ": organ,
        "density": rnd.choice(("hypodense", "hyperdense")),
        "size_mm": rnd.randint(10, 60 if organ == "liver" else 32),
        "count": rnd.choices((0, 1, 2, 3), (2, 6, 2, 1))[0],
    }


def _brain(rnd: random.Random) -> dict[str, Fact]:
    return {
        **_person(rnd),
        "finding": rnd.choices(("hemorrhage", "infarct", "none"), (4, 3, 2))[0],
        "side": _side(rnd),
        "lobe": rnd.choice(("frontal", "parietal", "occipital")),
        "size_mm": rnd.randint(14, 48),
    }


def _head(rnd: random.Random) -> dict[str, Fact]:
    return {
        **_person(rnd),
        "sequence": rnd.choice(("T1-weighted", "T2-weighted", "FLAIR")),
        "side": _side(rnd),
        "lobe": rnd.choice(("frontal", "parietal", "occipital")),
        "size_mm": rnd.randint(7, 38),
        "count": rnd.choices((0, 1, 2, 3, 4), (2, 5, 2, 1, 1))[0],
    }


def _sonogram(rnd: random.Random) -> dict[str, Fact]:
    return {
        **_person(rnd),
        "organ": rnd.choice(("liver", "gallbladder", "thyroid", "right kidney", "left kidney")),
        "finding": rnd.choices(("cyst", "stone", "solid nodule", "none"), (3, 3, 3, 1))[0],
        "size_mm": rnd.randint(6, 39),
        "depth_mm": rnd.randint(45, 95),
    }


def _body(rnd: random.Random) -> dict[str, Fact]:
    return {
        **_person(rnd),
        "count": rnd.randint(0, 6),
        "region": rnd.choice(("chest", "abdomen", "pelvis")),
        "suv_tenths": rnd.randint(31, 188),
    }


def _retina(rnd: random.Random) -> dict[str, Fact]:
    return {
        **_person(rnd),
        "side": _side(rnd),
        "finding": rnd.choices(("hemorrhages", "exudates", "none"), (3, 3, 2))[0],
        "count": rnd.randint(4, 17),
    }


def _cells(rnd: random.Random) -> dict[str, Fact]:
    return {
        "stain": rnd.choice(STAINS),
        "count": rnd.randint(5, 58),
        "magnification": rnd.choice((100, 200, 400, 630)),
        "scale_um": rnd.choice((10, 20, 50, 100)),
        "tissue": rnd.choice(("lymph node", "bone marrow", "colon", "skin", "kidney", "prostate")),
    }


def _chart(rnd: random.Random) -> dict[str, Fact]:
    groups = rnd.randint(3, 7)
    return {
        "style": rnd.choices(("bar", "line"), (7, 3))[0],
        "groups": groups,
        "highest": rnd.randint(1, groups),
        "colour": rnd.choice(BAR_COLOURS),
        "measure": rnd.choice(_MEASURES),
        "top": rnd.randint(12, 98),
        "months": rnd.choice((3, 6, 9, 12, 18, 24, 36, 60)),
        "patients": rnd.randint(18, 940),
    }


_FACTS: Mapping[str, Callable[[random.Random], dict[str, Fact]]] = {
    "chest": _chest,
    "abdomen": _abdomen,
    "brain": _brain,
    "head": _head,
    "sonogram": _sonogram,
    "body": _body,
    "retina": _retina,
    "cells": _cells,
    "chart": _chart,
}

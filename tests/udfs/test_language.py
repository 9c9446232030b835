"""Languages of captions: real English, French and Chinese ones, and some by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from udfs.language import language

FOREIGN = {
    "de": (
        "Röntgenaufnahme des Thorax mit Erguss links",
        "CT des Abdomens mit Lebermetastasen",
        "MRT des Schädels: Raumforderung im Kleinhirn",
        "Sonographie der Schilddrüse",
    ),
    "es": (
        "Radiografía de tórax con derrame pleural izquierdo",
        "Tomografía computarizada de abdomen que muestra metástasis hepáticas",
        "Ecografía de tiroides",
    ),
    "fr": ("Radiographie de face", "TDM abdominale montrant une masse du foie"),
    "it": ("TC dell'addome con metastasi epatiche",),
    "pl": ("Zdjęcie rentgenowskie klatki piersiowej",),
    "ru": ("Рентгенограмма грудной клетки",),
    "ja": ("胸部X線写真で左胸水を認める",),
}
SHORT = ("OPG view", "CT brain.", "Frontal view.", "Carcinoma rectum", "Ocular melanosis.", "AP")


@pytest.mark.parametrize(("code", "text"), [(c, t) for c, ts in FOREIGN.items() for t in ts])
def test_other_languages_are_found(code: str, text: str) -> None:
    assert language(text) == code


@pytest.mark.parametrize("text", [*SHORT, "", "12.5 / 3", "→"])
def test_what_is_too_short_to_tell_is_not_another_language(text: str) -> None:
    assert language(text) in ("en", None)


def test_real_captions(shared_data: Path) -> None:
    """126 of ROCO's captions are French; the others are English, however short."""
    folder = shared_data / "medical" / "roco_test"
    captions = []
    for name in ("radiology", "non-radiology"):
        with gzip.open(folder / name / "captions.txt.gz", "rt", encoding="utf-8") as f:
            captions += [line.split("\t", 1)[1].strip() for line in f]
    other = [c for c in captions if language(c) not in ("en", None)]
    assert len(captions) == 3743
    assert 120 <= len(other) <= 130
    french = (
        "é",
        "è",
        "ê",
        "ç",
        "à",
        " la ",
        " de ",
        " du ",
        " des ",
        " en ",
        " et ",
        "aphie ",
        "d\u2019un",
        "d'un",
    )
    assert [c for c in other if not any(f in c for f in french)] == []


def test_real_questions_in_two_languages(shared_data: Path) -> None:
    with gzip.open(shared_data / "medical" / "slake_text" / "test.json.gz", "rt") as f:
        asked = json.load(f)
    wrong = [q["question"] for q in asked if language(q["question"]) != q["q_lang"]]
    assert wrong == []

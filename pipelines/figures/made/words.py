"""Captions that fit a scene, in the words and with the clutter of published ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from pipelines.figures.made.scenes import Fact, Scene

Facts = Mapping[str, Fact]

_HISTORY = (
    "with a {n}-day history of {symptom}",
    "who presented with {symptom} for {n} days",
    "referred because of {symptom} since {n} weeks",
    "admitted with {symptom} after {n} days of treatment at home",
    "with {symptom} and a body temperature of {t} °C",
    "with known {illness}, examined for {symptom}",
    "treated for {illness} {n} months before",
)
_SYMPTOMS = (
    "cough and fever", "abdominal pain", "progressive dyspnea", "weight loss", "headache",
    "night sweats", "chest pain", "dizziness", "hemoptysis", "nausea and vomiting", "fatigue",
    "blurred vision", "a palpable mass", "back pain", "confusion", "dysphagia",
)  # fmt: skip
_ILLNESSES = (
    "type 2 diabetes", "arterial hypertension", "breast cancer", "chronic hepatitis B", "lymphoma",
    "rheumatoid arthritis", "sarcoidosis", "melanoma", "renal failure", "multiple sclerosis",
    "ulcerative colitis", "HIV infection",
)  # fmt: skip
_AFTER = (
    "The finding was stable {n} months later.",
    "At follow-up after {n} weeks it had decreased by {p}%.",
    "Biopsy on day {n} confirmed the diagnosis of {illness}.",
    "The patient was discharged on day {n} and remained well for {p} months.",
    "No change was seen at {n} and {p} weeks.",
    "Laboratory tests showed a C-reactive protein of {p} mg/L and {n}.{d} x 10^9/L leukocytes.",
    "Treatment with steroids was begun after {n} h and tapered over {p} days.",
    "Surgery was performed {n} days later and lasted {p} min.",
    "The arrow marks the region measured in {p} of {q} patients.",
    "Interobserver agreement was {p}.{d}% in {q} readings.",
)


def caption(scene: Scene, rnd: random.Random) -> str:
    """What the scene shows, by facts alone; another `rnd` says the same in other words."""
    if scene.panels:
        return _of_panels(scene, rnd)
    return " ".join((_SAY[scene.kind](scene.facts, rnd), _filled(rnd.choice(_AFTER), rnd)))


def _filled(text: str, rnd: random.Random) -> str:
    return text.format(
        n=rnd.randint(2, 29),
        p=rnd.randint(31, 99),
        q=rnd.randint(101, 700),
        d=rnd.randint(0, 9),
        t=f"{rnd.randint(366, 404) / 10:.1f}",
        symptom=rnd.choice(_SYMPTOMS),
        illness=rnd.choice(_ILLNESSES),
    )


def _who(f: Facts, rnd: random.Random) -> str:
    history = _filled(rnd.choice(_HISTORY), rnd)
    who = rnd.choice(("a {age}-year-old {sex}", "a {sex} aged {age} years"))
    return f"{who.format(**f)} {history}"


def _fit(rnd: random.Random, f: Facts, openings: tuple[str, ...], finding: str) -> str:
    """An opening that names the patient, and the finding in a sentence of its own or before it."""
    opening = rnd.choice(openings).format(**f)
    if rnd.random() < 0.35:
        return f"{finding[0].upper()}{finding[1:]}. {opening} of {_who(f, rnd)}."
    shows = rnd.choice(("shows", "demonstrates", "reveals", "showing"))
    return f"{opening} of {_who(f, rnd)} {shows} {finding}."


def _chest(f: Facts, rnd: random.Random) -> str:
    size = rnd.choice(("{size_mm} mm", "{size_cm} cm")).format(**f, size_cm=_cm(f))
    place = rnd.choice(("{side} {zone} lung zone", "{zone} zone of the {side} lung")).format(**f)
    finding = {
        "nodule": f"a round nodule of {size} in the {place}",
        "effusion": rnd.choice(
            ("a {side}-sided pleural effusion with a meniscus", "fluid in the {side} pleural space")
        ).format(**f),
        "consolidation": f"patchy consolidation in the {place}",
        "none": rnd.choice(("clear lungs without focal opacity", "no pleural or pulmonary lesion")),
    }[str(f["finding"])]
    return _fit(
        rnd,
        f,
        ("Chest X-ray ({view} view)", "{view} chest radiograph", "Plain chest radiograph, {view},"),
        finding,
    ).replace("posteroanterior chest", "Posteroanterior chest", 1).replace(
        "anteroposterior chest", "Anteroposterior chest", 1
    )  # fmt: skip


def _cm(f: Facts) -> str:
    return f"{int(f['size_mm']) / 10:g}"


_NUMBERS = ("no", "a", "two", "three", "four", "five", "six")


def _several(count: int, one: str) -> str:
    """As "no cyst", "a cyst" and "two cysts"."""
    if count > 1:
        return f"{_NUMBERS[count]} {one}s"
    article = "an" if count and one[0] in "aeiou" else _NUMBERS[count]
    return f"{article} {one}"


def _abdomen(f: Facts, rnd: random.Random) -> str:
    lesions = _several(int(f["count"]), f"{f['density']} {rnd.choice(('lesion', 'mass'))}")
    lesions = lesions.replace("masss", "masses")
    finding = f"{lesions} in the {f['organ']}"
    if f["count"]:
        finding += rnd.choice((" measuring up to {size_mm} mm", " ({size_cm} cm)")).format(
            **f, size_cm=_cm(f)
        )
    openings = (
        "Contrast-enhanced CT of the abdomen", "Axial computed tomography scan",
        "Abdominal CT in the portal venous phase",
    )  # fmt: skip
    return _fit(rnd, f, openings, finding)


def _brain(f: Facts, rnd: random.Random) -> str:
    finding = {
        "hemorrhage": f"a hyperdense hemorrhage of {f['size_mm']} mm in the {f['side']} "
        f"{f['lobe']} lobe",
        "infarct": f"hypodense ischemic infarction of the {f['side']} {f['lobe']} lobe, "
        f"{_cm(f)} cm in diameter",
        "none": "no hemorrhage and no mass effect",
    }[str(f["finding"])]
    return _fit(rnd, f, ("Non-contrast CT of the head", "Axial cranial CT"), finding)


def _head(f: Facts, rnd: random.Random) -> str:
    lesions = _several(int(f["count"]), rnd.choice(("focal lesion", "round lesion")))
    finding = f"{lesions} in the {f['side']} {f['lobe']} lobe"
    if f["count"]:
        finding += rnd.choice((", the largest {size_mm} mm wide", " of up to {size_cm} cm")).format(
            **f, size_cm=_cm(f)
        )
    return _fit(rnd, f, ("Axial {sequence} MRI of the brain", "Brain MRI ({sequence})"), finding)


def _sonogram(f: Facts, rnd: random.Random) -> str:
    finding = {
        "cyst": "an anechoic cyst with posterior enhancement",
        "stone": "an echogenic stone with acoustic shadowing",
        "solid nodule": "a solid nodule",
        "none": "no focal lesion",
    }[str(f["finding"])]
    if f["finding"] != "none":
        finding += rnd.choice((" of {size_mm} mm", ", diameter {size_mm} mm,")).format(**f)
        if rnd.random() < 0.5:
            finding += f" at a depth of {f['depth_mm']} mm"
    finding += f" in the {f['organ']}"
    return _fit(rnd, f, ("Ultrasound of the {organ}", "B-mode sonography of the {organ}"), finding)


def _body(f: Facts, rnd: random.Random) -> str:
    foci = _several(int(f["count"]), rnd.choice(("hypermetabolic focus", "focus of uptake")))
    foci = foci.replace("focuss", "foci").replace("focus of uptakes", "foci of uptake")
    finding = f"{foci} in the {f['region']}"
    if f["count"]:
        finding += f" (SUVmax {int(f['suv_tenths']) / 10:.1f})"
    openings = ("Maximum intensity projection of FDG-PET", "18F-FDG PET scan")
    return _fit(rnd, f, openings, finding)


def _retina(f: Facts, rnd: random.Random) -> str:
    finding = {
        "hemorrhages": f"{f['count']} retinal hemorrhages",
        "exudates": f"{f['count']} hard exudates",
        "none": "a normal optic disc and no hemorrhage",
    }[str(f["finding"])]
    openings = ("Color fundus photograph of the {side} eye", "Fundus image ({side} eye)")
    return _fit(rnd, f, openings, finding)


def _cells(f: Facts, rnd: random.Random) -> str:
    stain = {
        "hematoxylin and eosin": rnd.choice(("hematoxylin and eosin", "H&E")),
        "Giemsa": "Giemsa stain",
        "DAPI": rnd.choice(("DAPI fluorescence", "immunofluorescence with DAPI")),
    }[str(f["stain"])]
    what = rnd.choice(
        (
            "Photomicrograph of {tissue} with {count} cells in the field",
            "Histology of {tissue}: {count} cells with round nuclei are seen",
            "Micrograph showing {count} nucleated cells from {tissue}",
        )
    ).format(**f)
    sample = _filled(
        rnd.choice(
            ("sample {q} of {p} taken on day {n}", "section {n} of {p}, specimen {q}",
             "passage {n}, {q} h after plating, viability {p}%")
        ),
        rnd,
    )  # fmt: skip
    return f"{what} ({stain}, original magnification x{f['magnification']}; {sample})."


def _chart(f: Facts, rnd: random.Random) -> str:
    what = "Bar chart" if f["style"] == "bar" else "Line graph"
    text = rnd.choice(
        (
            "{what} of {measure} in {groups} groups of patients after {months} months "
            "(n = {patients}), highest in group {highest}.",
            "{what} comparing {measure} between {groups} groups, {patients} patients in all. "
            "Group {highest} had the highest value at {months} months.",
        )
    ).format(what=what, **f)
    trial = _filled(
        rnd.choice(
            ("Error bars show the 95% confidence interval; p = 0.0{n} in {q} permutations.",
             "Data are means of {n} experiments with {p} to {q} replicates.",
             "Values were adjusted for age; {n} of {q} values were missing.")
        ),
        rnd,
    )  # fmt: skip
    return f"{text} {trial}"


_SAY: Mapping[str, Callable[[Facts, random.Random], str]] = {
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


def _of_panels(scene: Scene, rnd: random.Random) -> str:
    mark = rnd.choice(("({})", "({})", "{}:", "({})"))
    lower = mark == "({})" and rnd.random() < 0.3
    marks = [mark.format("abcdef"[n] if lower else "ABCDEF"[n]) for n in range(len(scene.panels))]
    if rnd.random() < 0.12:  # a caption that does not mark its panels
        return caption(scene.panels[0], rnd)
    opening = _filled(
        rnd.choice(
            ("Findings in case {n} of {q}.", "Imaging on days {n} and {p}.",
             "Representative images of {p} of {q} cases.", "")
        ),
        rnd,
    )  # fmt: skip
    texts = (f"{m} {_SAY[s.kind](s.facts, rnd)}" for m, s in zip(marks, scene.panels, strict=True))
    return " ".join((opening, *texts)).strip()


_LICENCE_LINES = (
    "Reproduced with permission from the publisher.",
    "This figure is licensed under CC BY 4.0.",
    "© The Author(s) {y}. Published by the society under the CC BY licence.",
    "For interpretation of the references to color in this figure legend, the reader is referred "
    "to the web version of this article.",
    "Adapted from Ref. [{n}].",
)
_CLUTTER_SHARES = {"label": 0.45, "citation": 0.25, "entity": 0.15, "boilerplate": 0.2, "odd": 0.04}


def cluttered(text: str, facts: Facts, figure: int, rnd: random.Random) -> str:
    """The caption of an article's n-th figure as a publisher's file has it.

    That is with labels, citations, entities and licence lines.

    Each comes in the share of _CLUTTER_SHARES; cleaning should leave the caption's own words.
    """
    has = {name: rnd.random() < share for name, share in _CLUTTER_SHARES.items()}
    if has["citation"]:
        a, year = rnd.randint(1, 60), rnd.randint(1994, 2023)
        cite = rnd.choice(
            (f"[{a}]", f"[{a}, {a + 2}]", f"[{a}-{a + 3}]", f"(Meyer et al., {year})")
        )
        text = f"{text[:-1]} {cite}." if text.endswith(".") else f"{text} {cite}"
    if has["entity"]:
        text = text.replace("°C", "&#176;C").replace("H&E", "H&amp;E").replace(" x", " &times;")
        text += rnd.choice(
            (" *p &lt; 0.05.", " Slice thickness 5&nbsp;mm.", " Window &plusmn;40 HU.")
        )
    if "scale_um" in facts:
        text += f" Scale bar: {facts['scale_um']} {'&#956;m' if has['entity'] else 'μm'}."
    if has["boilerplate"]:
        line = rnd.choice(_LICENCE_LINES).format(y=rnd.randint(2008, 2023), n=rnd.randint(2, 50))
        text += f" {line}"
    if has["odd"]:  # what copying from a PDF leaves: ligatures, zero width and no-break spaces
        text = text.replace("fi", "\ufb01").replace(" of ", "\u00a0of\u200b ", 1) + "\u0007"
    if has["label"]:
        letter = rnd.choice(("", "", "a", "b"))
        label = rnd.choice(("Fig. {}.", "Figure {}.", "FIGURE {}:", "Fig {} -", "Fig. {} |"))
        text = f"{label.format(f'{figure}{letter}')} {text}"
    return text


def nearly(text: str, rnd: random.Random) -> str:
    """The same caption but for a word or two at its ends, as another edition has it."""
    words = text.split(" ")
    how = rnd.randrange(3)
    if how == 0:
        return " ".join(words[:-1]) + " (see text)."
    if how == 1:
        return text + " See also the supplement."
    return "Online version: " + text

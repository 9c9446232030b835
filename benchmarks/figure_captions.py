"""How well modalities are told from text, by published labels.

`python -m benchmarks.figure_captions` prints the tables of docs/figures-captions.md. It reads
ROCO's test lists, SLAKE and VQA-RAD below SHARED_DATA (see its medical/INDEX.md).

- ROCO: captions are the evidence, ROCO's keywords the label. Keywords are lemmas of the caption, so
  this says whether the words that matter are found and put in the right class, and no more. A
  figure counts where its keywords name one class. Half of the figures, by id, was for tuning the
  words; the other half is measured.
- ROCO's list itself: figures of its radiology list that are said to be something else than
  radiology are wrong whatever their keywords say.
- SLAKE: the questions with their answers are the evidence (English), its modality is the label.
- VQA-RAD: likewise; the label is what its authors say of each body part: chest X-ray, abdomen CT,
  head CT or MR. Head is right with either.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.session import open_session
from pipelines.figures.captions import captions_of
from pipelines.figures.modality import modality_of_questions
from schemas.figures import MODALITIES
from schemas.frames import frame_of

FIGURES = "figure_id bigint, revision bigint, caption string, modality string, format string"
ASKED = "figure_id bigint, question string, answer string"
RADIOLOGY = {"ct", "mri", "xray", "ultrasound", "nuclear", "angiography"}

# Keywords of ROCO that name a class, alone or together.
_KEYWORDS: dict[str, str] = {
    "ct": "ct cect hrct mdct cbct cta msct tomography tomodensitometry",
    "mri": "mri mr mra mrcp flair magnetic+resonance fmri",
    "xray": "xray radiograph radiography radiographic radiogram cxr mammogram mammography "
    "fluoroscopy retrograde+cholangiopancreatography ercp orthopantomogram orthopantomograph "
    "opg barium roentgenogram panoramic+view",
    "ultrasound": "ultrasound ultrasonography ultrasonographic ultrasonogram sonography sonogram "
    "sonographic echocardiography echocardiogram echocardiographic doppler",
    "nuclear": "pet spect scintigraphy scintigram fdg fdgpet petct positron+emission",
    "angiography": "angiography angiogram angiographic arteriography arteriogram venogram "
    "venography aortogram aortography dsa digital+subtraction",
    "endoscopy": "endoscopy endoscopic colonoscopy bronchoscopy laparoscopy laparoscopic "
    "cystoscopy gastroscopy arthroscopy arthroscopic",
    "microscopy": "micrograph photomicrograph microscopy microscopic microscope histology "
    "histological histopathology histopathological hematoxylin eosin stain sem tem",
    "fundus": "fundu+eye fundu+retinal fundu+fluorescein coherence+tomography",
    "chart": "schematic diagram flowchart graph plot histogram illustration drawing",
    "other": "photograph photographic",
}
# Of two classes in the keywords the first is meant: CT angiography is CT, PET/CT is nuclear.
_WITHIN = (
    ("ct", "angiography"),
    ("mri", "angiography"),
    ("nuclear", "ct"),
    ("xray", "endoscopy"),  # ERCP
    ("fundus", "ct"),
    ("fundus", "angiography"),
)


@dataclass(frozen=True)
class Score:
    """Of one class: `right` of `said` that were said to be it, and of `n` that are."""

    right: int
    said: int
    n: int

    @property
    def precision(self) -> float | None:
        return self.right / self.said if self.said else None

    @property
    def recall(self) -> float | None:
        return self.right / self.n if self.n else None


def scores(pairs: Iterable[tuple[frozenset[str], str | None]]) -> dict[str, Score]:
    """By class: `pairs` has for each figure the labels that are right, and what was said.

    A figure with several right labels counts for recall as the class that was said, if that is one
    of them, and else as the first.
    """
    right: Counter[str] = Counter()
    said: Counter[str] = Counter()
    n: Counter[str] = Counter()
    for labels, found in pairs:
        is_right = found in labels
        n[found if found and is_right else min(labels)] += 1
        if found:
            said[found] += 1
            right[found] += is_right
    return {m: Score(right[m], said[m], n[m]) for m in MODALITIES if n[m] or said[m]}


def roco(spark: SparkSession, data: Path) -> dict[str, Any]:
    """`tuning` and `measured` scores of the two halves, and the share of the radiology list that is
    said to be no radiology.
    """
    rows, labels, lists = [], {}, {}
    for name in ("radiology", "non-radiology"):
        folder = data / "medical" / "roco_test" / name
        keywords = dict(_lines(folder / "keywords.txt.gz"))
        for record, caption in _lines(folder / "captions.txt.gz"):
            figure_id = zlib.crc32(f"{name}/{record}".encode())
            rows.append((figure_id, 1, caption, None, "roco"))
            labels[figure_id] = label_of(keywords.get(record, "").split("\t"))
            lists[figure_id] = name
    figures = frame_of(spark, rows, FIGURES)
    found: dict[int, str | None] = dict(
        captions_of(figures).select("figure_id", "modality").collect()
    )
    halves: dict[str, list[tuple[frozenset[str], str | None]]] = {"tuning": [], "measured": []}
    for figure_id, label in labels.items():
        if len(label) == 1:
            half = "measured" if figure_id % 2 else "tuning"
            halves[half].append((label, found[figure_id]))
    radiology = [found[i] for i, name in lists.items() if name == "radiology"]
    said = [m for m in radiology if m]
    return {
        **{half: scores(pairs) for half, pairs in halves.items()},
        "figures": len(rows),
        "said": sum(m is not None for m in found.values()),
        "radiology_said": len(said),
        "radiology_else": sum(m not in RADIOLOGY for m in said),
    }


def label_of(keywords: Iterable[str]) -> frozenset[str]:
    """The classes that ROCO's keywords of a figure name."""
    words = set(keywords)
    named = {
        m for m, ks in _KEYWORDS.items() if any(set(k.split("+")) <= words for k in ks.split())
    }
    for meant, other in _WITHIN:
        if meant in named:
            named.discard(other)
    return frozenset(named)


def slake(spark: SparkSession, data: Path) -> dict[str, Score]:
    """By what the questions in English say, against the modality that SLAKE gives."""
    asked, labels = [], {}
    for part in ("train", "validate", "test"):
        with gzip.open(data / "medical" / "slake_text" / f"{part}.json.gz", "rt") as f:
            for q in json.load(f):
                if q["q_lang"] == "en":
                    asked.append((q["img_id"], q["question"], str(q["answer"])))
                    labels[q["img_id"]] = frozenset((_slake_class(q["modality"]),))
    return _of_questions(spark, asked, labels)


def vqa_rad(spark: SparkSession, data: Path) -> dict[str, Score]:
    """By what the questions say, against what the authors say of each body part."""
    folder = data / "medical" / "vqa_rad"
    by_part = {"CHEST": {"xray"}, "ABD": {"ct"}, "HEAD": {"ct", "mri"}}
    asked, labels = [], {}
    for q in json.loads((folder / "VQA_RAD_Dataset_Public.json").read_text(encoding="utf-8")):
        figure_id = zlib.crc32(q["image_name"].encode())
        asked.append((figure_id, q["question"], str(q["answer"])))
        labels[figure_id] = frozenset(by_part[q["image_organ"].strip()])
    return _of_questions(spark, asked, labels)


def _of_questions(
    spark: SparkSession, asked: list[tuple[int, str, str]], labels: Mapping[int, frozenset[str]]
) -> dict[str, Score]:
    told = modality_of_questions(frame_of(spark, asked, ASKED))
    found: dict[int, str | None] = dict(told.select("figure_id", "modality").collect())
    return scores((label, found.get(figure_id)) for figure_id, label in labels.items())


def _slake_class(modality: str) -> str:
    return {"CT": "ct", "MRI": "mri", "X-Ray": "xray"}[modality]


def _lines(path: Path) -> Iterable[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as f:
        for line in f:
            record, _, rest = line.rstrip("\n").partition("\t")
            yield record, rest


def table(by_class: Mapping[str, Score]) -> str:
    """The scores as a table in Markdown."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    lines = ["| modality | precision | recall | n | said |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {m} | {share(s.precision)} | {share(s.recall)} | {s.n} | {s.said} |"
        for m, s in by_class.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print every table."""
    root = Path(__file__).resolve().parents[1]
    data = Path(os.environ.get("SHARED_DATA", root.parent / "shared" / "data"))
    spark = open_session("figure captions", {})
    of_roco = roco(spark, data)
    print(f"ROCO, the half that was not for tuning:\n\n{table(of_roco['measured'])}")
    print(f"ROCO, the half for tuning:\n\n{table(of_roco['tuning'])}")
    print({k: v for k, v in of_roco.items() if isinstance(v, int)})
    print(f"SLAKE:\n\n{table(slake(spark, data))}")
    print(f"VQA-RAD:\n\n{table(vqa_rad(spark, data))}")
    spark.stop()


if __name__ == "__main__":
    main()

"""How often the panels of a compound figure are found: precision and recall on made composites.

    python -m benchmarks.figure_panels --images FOLDER [--half 0|1]

Images are those below FOLDER, of which one half (by the order of their names) is for choosing the
thresholds in udfs/images/panels.py and the other for measuring. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.composites import ROWS, Composite, composite, overlap
from udfs.images.panels import Box, panel_boxes

_SAME = 0.8
_EACH = 60


@dataclass
class Score:
    """Counts over figures: of panels there, found, and both; of figures with all panels right."""

    figures: int = 0
    right: int = 0
    there: int = 0
    found: int = 0
    both: int = 0

    def add(self, truth: list[Box], found: list[Box]) -> None:
        hits = sum(any(overlap(t, f) >= _SAME for f in found) for t in truth)
        self.figures += 1
        self.right += hits == len(truth) == len(found)
        self.there += len(truth)
        self.found += len(found)
        self.both += hits

    def row(self, name: str) -> str:
        precision, recall = self.both / max(1, self.found), self.both / max(1, self.there)
        return (
            f"| {name} | {self.figures} | {precision:.3f} | {recall:.3f} "
            f"| {self.right / self.figures:.3f} |"
        )


def images_below(folder: Path, half: int) -> list[Image.Image]:
    """Every second image as gray, beginning with the first (half 0) or the second (half 1)."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [Image.open(path).convert("L") for path in files[half::2]]


def made(images: list[Image.Image], each: int = _EACH, seed: int = 1) -> Iterable[Composite]:
    """`each` composites of every number of panels."""
    rng = random.Random(seed)
    for number in ROWS:
        for _ in range(each):
            yield composite(rng.sample(images, number), rng)


def scores(composites: Iterable[Composite]) -> dict[str, Score]:
    """By what figures have in common, as "4 panels" or "black gutter"."""
    found: dict[str, Score] = defaultdict(Score)
    for figure in composites:
        boxes = panel_boxes(figure.gray)
        width = "3 to 6 px" if figure.gutter_px <= 6 else "8 to 24 px"
        for name in (
            "all",
            f"{len(figure.boxes)} panels",
            f"{figure.gutter} gutters",
            f"{figure.gutter} gutters of {width}",
            f"letters: {figure.letters}",
        ):
            found[name].add(figure.boxes, boxes)
    return dict(sorted(found.items()))


def cut_singles(images: list[Image.Image]) -> int:
    """How many images that are no compound figures are taken for one."""
    return sum(len(panel_boxes(np.asarray(image))) > 1 for image in images)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figure_panels", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of single images")
    parser.add_argument(
        "--half", type=int, choices=(0, 1), default=1, help="which half (default 1)"
    )
    args = parser.parse_args(argv)
    images = images_below(args.images, args.half)
    print("| figures | number | precision | recall | all panels right |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, score in scores(made(images)).items():
        print(score.row(name))
    print(f"\n{cut_singles(images)} of {len(images)} single images are taken for compound ones.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

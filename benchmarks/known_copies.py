"""Recall and precision of near-duplicate images, on copies of real images that are known.

    python -m benchmarks.known_copies SHARED_DATA

Each of the 353 real images is copied in the ways of `tests.copied_images`. Every two of the 3 177
pictures are compared, by the same functions as the pipeline's: a pair is true where both come from
one image. Recall is of an image and its copies, precision of all pairs that are found. Takes a
minute; the table is in docs/figures-duplicates.md.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tests.copied_images import COPIES, copies, jpeg, normalised, real_images
from udfs.images.phash import bits_apart, phash
from udfs.likeness import differences, thumbnail

DISTANCES = (4, 5, 6, 8, 10)
DIFFERENCES = (None, 0.15, 0.2, 0.25, 0.3)
_AT_ONCE = 50_000


def main() -> None:
    paths = real_images(Path(sys.argv[1]))
    pictures: list[bytes] = []
    for path in paths:
        image = normalised(path)
        pictures += [jpeg(image), *(copy for _, copy in copies(image))]
    hashes = np.array([_phash(picture) for picture in pictures], np.int64)
    thumbs = np.stack([np.frombuffer(thumbnail(p), np.uint8) for p in pictures])
    each = len(COPIES) + 1
    image_of = np.repeat(np.arange(len(paths)), each)

    near = bits_apart(hashes[:, None], hashes[None, :])
    a, b = np.nonzero(np.triu(near <= max(DISTANCES), 1))
    distance = near[a, b]
    difference = np.concatenate(
        [
            differences(thumbs[a[i : i + _AT_ONCE]], thumbs[b[i : i + _AT_ONCE]])
            for i in range(0, len(a), _AT_ONCE)
        ]
    )
    same = image_of[a] == image_of[b]
    of_original = same & (a % each == 0)
    kinds = list(COPIES)
    print("| distance | difference | recall | precision | false pairs |", " | ".join(kinds), "|")
    print("| ---: " * (5 + len(kinds)) + "|")
    for limit in DIFFERENCES:
        for bits in DISTANCES:
            kept = (distance <= bits) & (True if limit is None else difference <= limit)
            found = np.bincount(b[kept & of_original] % each, minlength=each)[1:] / len(paths)
            cells = [
                str(bits),
                "any" if limit is None else f"{limit:.2f}",
                f"{found.mean():.4f}",
                f"{same[kept].mean():.4f}",
                str((~same[kept]).sum()),
                *(f"{share:.3f}" for share in found),
            ]
            print("|", " | ".join(cells), "|")


def _phash(picture: bytes) -> int:
    with Image.open(BytesIO(picture)) as opened:
        return phash(np.asarray(opened.convert("L")))


if __name__ == "__main__":
    main()

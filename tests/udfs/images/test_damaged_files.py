"""Files with bytes flipped, cut out, cut off or repeated: a picture or a reason, never a crash.

A decoder that ends its process ends the test's; so the thousands run in a child process that
tells which file it was.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from tests.made_images import files_of_every_kind
from udfs.images.isolated import Isolated
from udfs.images.parts import Rules, parts_of

pytestmark = pytest.mark.slow

KINDS = files_of_every_kind()
REASONS = {
    "empty_file",
    "not_an_image",
    "truncated",
    "corrupt",
    "too_many_pixels",
    "too_small",
    "blank",
    "unsupported_mode",
}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One to eight faults; half of them near the beginning, where sizes and tables stand."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        reach = len(made) if rng.random() < 0.5 else min(len(made), 200)
        at = rng.randrange(max(1, reach))
        match rng.randrange(6):
            case 0 | 1 if made:
                made[at % len(made)] ^= 1 << rng.randrange(8)
            case 2:
                made[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\0\1"))
            case 3:
                del made[at : at + rng.randrange(1, 40)]
            case 4:
                made[at:at] = made[at : at + rng.randrange(1, 40)]
            case _ if rng.random() < 0.2:
                del made[at:]
    return bytes(made)


def outcomes(kind: str, seed: int, times: int) -> Counter[str]:
    """How often each reason, or none, came of damaging the file of a kind."""
    rng = random.Random(f"{kind} {seed}")
    found: Counter[str] = Counter()
    for _ in range(times):
        content = damaged(KINDS[kind], rng)
        for captions in (0, 2):
            for part in parts_of(content, "folder", captions, Rules(longest_side_px=32)):
                found[part.reasons[0] if part.reasons else ""] += 1
                assert (part.image is None) == bool(part.reasons)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_some_damaged_files(kind: str) -> None:
    found = outcomes(kind, 0, 40)

    assert set(found) <= REASONS | {""}
    assert sum(found.values()) >= 80


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(1, 5))
def test_thousands_of_damaged_files(seed: int) -> None:
    total: Counter[str] = Counter()
    with Isolated(outcomes, time_limit_s=300) as isolated:
        for kind in KINDS:
            total += isolated(kind, seed, 500)
    print(total)

    assert set(total) <= REASONS | {""}
    assert total[""] > 1000
    assert total["corrupt"] > 1000


@pytest.mark.faults
def test_noise_after_every_magic_number() -> None:
    rng = np.random.default_rng(1)
    found: Counter[str] = Counter()
    for kind, content in KINDS.items():
        for length in (4, 30, 400, 40_000):
            for _ in range(25):
                noise = content[: int(rng.integers(2, 60))] + rng.bytes(length)
                for part in parts_of(noise, kind, 0, Rules()):
                    found[part.reasons[0] if part.reasons else ""] += 1

    assert set(found) <= REASONS | {""}

"""Broken copies of the real DICOM files, read in a process that a codec may take down.

    python -m tests.fuzzed_dicom FOLDER START STOP [--all]

reads the copies START to STOP of the files below FOLDER and prints how many gave pictures, and how
many each reason. The number of the copy that it is at stands on standard error, so that a parent
knows where it died. `--all` draws quarantined files too, to test their decoders.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import udfs.images.dicom
from tests.real_dicom import FRAMES_OR_REASON
from udfs.dicom.headers import header_of
from udfs.images.dicom import frames_of
from udfs.images.picture import Rejected

ROOT = Path(__file__).resolve().parents[1]
MEMORY_BYTES = 3 << 30
LONGEST_S = 20.0

_FILES = sorted(FRAMES_OR_REASON)
_KEY = b"0123456789abcdef0123456789abcdef"
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


class Outcome(NamedTuple):
    """Counts by `pictures` or reason, and the copies whose decoder ended the process."""

    counts: Counter[str]
    crashed: list[str]


def broken(content: bytes, number: int) -> bytes:
    """Copy of this number: bits flipped, bytes changed, a run overwritten, or the end cut off.

    Every other copy is broken in the pixel data only, where the header still reads.
    """
    rng = random.Random(number)
    start = max(content.rfind(_PIXEL_DATA), 0) if number % 2 else 0
    data = bytearray(content[start:])
    match rng.randrange(4):
        case 0:
            for _ in range(rng.choice((1, 2, 8, 32))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            for _ in range(rng.choice((1, 4, 16))):
                data[rng.randrange(len(data))] = rng.randrange(256)
        case 2:
            at, length = rng.randrange(len(data)), rng.randrange(1, 64)
            data[at : at + length] = rng.randbytes(length)
        case _:
            del data[rng.randrange(len(data)) :]
    return content[:start] + bytes(data)


def file_of(number: int) -> str:
    """Name of the file that a copy is of."""
    return _FILES[number // 2 % len(_FILES)]


def fuzz(folder: Path, start: int, stop: int, *, draw_all: bool = False) -> Outcome:
    """Read copies in child processes, a new one after each crash.

    Raises AssertionError where a child ends with an error of Python's.
    """
    counts: Counter[str] = Counter()
    crashed: list[str] = []
    while start < stop:
        command = [sys.executable, "-m", "tests.fuzzed_dicom", str(folder), str(start), str(stop)]
        done = subprocess.run(
            command + ["--all"] * draw_all, capture_output=True, text=True, cwd=ROOT
        )
        reached = [int(line[3:]) for line in done.stderr.splitlines() if line.startswith("at ")][-1]
        assert done.returncode <= 0, f"copy {reached} of {file_of(reached)}: {done.stderr[-3000:]}"
        for line in done.stdout.splitlines():
            counts.update(json.loads(line))
        if done.returncode == 0:
            break
        crashed.append(file_of(reached))
        start = reached + 1
    return Outcome(counts, crashed)


def main(folder: str, start: str, stop: str, *options: str) -> None:
    """Read copies and print one JSON object for each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if "--all" in options:
        udfs.images.dicom.quarantine_reason = lambda dataset: None
    contents = {name: (Path(folder) / name).read_bytes() for name in _FILES}
    for number in range(int(start), int(stop)):
        print(f"at {number}", file=sys.stderr, flush=True)
        content = broken(contents[file_of(number)], number)
        began = time.monotonic()
        with suppress(Rejected):
            header_of(content, _KEY)
        try:
            outcome = "pictures" if frames_of(content) else "none"
        except Rejected as rejected:
            outcome = rejected.reason
        assert time.monotonic() - began < LONGEST_S
        print(json.dumps({outcome: 1}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How the jobs on figures grow: made figures of several sizes, each into a lake of its own.

    python -m benchmarks.figure_growth [--figures 2000 20000 100000]

Each job is a process of its own, as cron would start it, so the smallest size is mostly the start
of Java. The exponent between two sizes is log(seconds ratio) / log(figures ratio); the bar for the
last step is 1.05.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=int, nargs="+", default=[2_000, 20_000, 100_000])
    sizes = sorted(parser.parse_args(argv).figures)
    print(f"{'figures':>9} {'ingest s':>9} {'prepare s':>10} {'figures/s':>10}   slowest steps")
    took = [_seconds(n) for n in sizes]
    for (n, a), (m, b) in pairwise(zip(sizes, took, strict=True)):
        print(f"exponent of prepare from {n:,} to {m:,}: {math.log(b / a) / math.log(m / n):.2f}")
    return 0


def _seconds(figures: int) -> float:
    """Seconds of prepare_captions, start of Java left out, for so many figures."""
    with tempfile.TemporaryDirectory(prefix="figure-growth-") as folder:
        made, lake = f"{folder}/made", f"{folder}/lake"
        _job("make_figures", "--figures", figures, "--out", made)
        where = ("--format", "webdataset", "--source", "made", "--lake", lake)
        ingested = _job("ingest_figures", f"{made}/figures", *where)
        page = f"{folder}/captions.html"
        prepared = _job("prepare_captions", "--lake", lake, "--page", page)
    steps = dict(prepared["seconds"])
    start, total = steps.pop("start"), steps.pop("total")
    slowest = sorted(steps.items(), key=lambda step: -step[1])[:4]
    said = ", ".join(f"{name} {s:.0f}" for name, s in slowest)
    seconds = total - start
    print(
        f"{figures:>9,} {ingested['seconds']['total']:>9.0f} {seconds:>10.0f} "
        f"{figures / seconds:>10.0f}   {said}",
        flush=True,
    )
    return float(seconds)


def _job(name: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


if __name__ == "__main__":
    sys.exit(main())

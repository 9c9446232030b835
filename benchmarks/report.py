"""Results as Markdown tables and as JSON with every single time."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.contenders import BASE
from benchmarks.growth import Sample, exponent
from benchmarks.measure import Result
from jobs.session import code_version

RESULTS = Path(__file__).parent / "results"


def write_json(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """`folder/name.json`: the content, and where and when it was measured."""
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_version(),
        "machine": {
            "cores": os.cpu_count(),
            "cpu": _cpu(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "python": platform.python_version(),
        },
        **content,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


def write_results(folder: Path, results: Sequence[Result], skipped: Mapping[str, str]) -> None:
    """All results so far, as return_trips.json and return_trips.md."""
    rows = [
        {
            "data": r.data,
            "trips": r.trips,
            "radius_m": r.radius_m,
            "pairs": r.pairs,
            "seconds": r.seconds,
            "median_s": r.medians,
            "times_bucketed": {n: _ratio(r, n) for n in r.medians},
            "foretold_s": r.foretold_s,
        }
        for r in results
    ]
    growth = {str(r): exponents(results, r) for r in dict.fromkeys(r.radius_m for r in results)}
    write_json(
        folder, "return_trips", {"skipped": skipped, "results": rows, "growth_exponents": growth}
    )
    (folder / "return_trips.md").write_text(markdown(results, skipped))


def markdown(results: Sequence[Result], skipped: Mapping[str, str]) -> str:
    """One table for each size and radius, then one of exponents for each radius."""
    parts = [table(r) for r in results]
    parts += [growth_table(results, r) for r in dict.fromkeys(r.radius_m for r in results)]
    if skipped:
        parts.append("\n".join(f"Not run: {n}, {why}." for n, why in skipped.items()) + "\n")
    return "\n".join(p for p in parts if p)


def table(result: Result) -> str:
    """One size at one radius, the quickest first; what was not run last."""
    pairs = "no" if result.pairs is None else f"{result.pairs:,}"
    lines = [
        f"{result.data}, {result.radius_m} m: {result.trips:,} trips, {pairs} pairs",
        "",
        "| contender | median s | min - max s | times bucketed |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, median in sorted(result.medians.items(), key=lambda x: x[1]):
        each, ratio = result.seconds[name], _ratio(result, name)
        spread = f"{min(each):.2f} - {max(each):.2f}" if len(each) > 1 else "once"
        shown = "" if ratio is None else f"{ratio:.2f}"
        lines.append(f"| {name} | {median:.2f} | {spread} | {shown} |")
    for name, seconds in sorted(result.foretold_s.items(), key=lambda x: x[1]):
        lines.append(f"| {name} | not run | {seconds:,.0f} s foretold | |")
    return "\n".join(lines) + "\n"


def growth_table(results: Sequence[Result], radius_m: int) -> str:
    """Exponents between one size and the next; empty where there is one size."""
    sizes = [r for r in results if r.radius_m == radius_m]
    found = exponents(results, radius_m)
    steps = [_step(a, b) for a, b in pairwise(sizes)]
    if not steps:
        return ""
    lines = [
        f"Growth at {radius_m} m: p of seconds ~ trips^p between one size and the next",
        "",
        f"| contender | {' | '.join(steps)} |",
        f"| --- |{' ---: |' * len(steps)}",
    ]
    for name, of in found.items():
        shown = (f"{of[step]:.2f}" if step in of else "" for step in steps)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def exponents(results: Sequence[Result], radius_m: int) -> dict[str, dict[str, float]]:
    """By contender and step; the trips of both sizes must lie as densely, so made or real alike."""
    sizes = [r for r in results if r.radius_m == radius_m]
    found: dict[str, dict[str, float]] = {}
    for a, b in pairwise(sizes):
        if a.data.split()[1] != b.data.split()[1] or a.trips >= b.trips:
            continue
        for name, median in b.medians.items():
            if name in a.medians:
                p = exponent((a.trips, a.medians[name]), (b.trips, median))
                found.setdefault(name, {})[_step(a, b)] = round(p, 2)
    return found


def known(results: Sequence[Result], radius_m: int) -> dict[str, list[Sample]]:
    """What each contender took, or would have taken, at a radius."""
    samples: dict[str, list[Sample]] = {}
    for r in results:
        if r.radius_m == radius_m:
            for name, seconds in {**r.foretold_s, **r.medians}.items():
                samples.setdefault(name, []).append((r.trips, seconds))
    return samples


def _step(a: Result, b: Result) -> str:
    return f"{a.data.split()[0]} to {b.data}"


def _ratio(result: Result, name: str) -> float | None:
    base = result.medians.get(BASE)
    return round(result.medians[name] / base, 2) if base else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    return names[0] if names else platform.processor()

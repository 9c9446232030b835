"""One size at one radius: a round of warm-up, then interleaved rounds, every contender once each.

So a slow minute of the machine hits all of them. What takes more than 30 s in the warm-up is not
run again: that time counts. What would take longer than a limit, by its growth on smaller sizes,
is not run at all, and the result says what was foretold. All must find the same number.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.growth import Sample, foretold_s

# So that the rounds stay short: a bad minute of the machine then hits all that is compared closely.
ONCE_S = 30.0


@dataclass
class Result:
    """Seconds of every contender on one file at one radius."""

    data: str
    trips: int
    radius_m: int
    pairs: int | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    foretold_s: dict[str, float] = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(s), 3) for name, s in self.seconds.items()}


def measure(
    contenders: Mapping[str, Contender],
    path: Path,
    result: Result,
    known: Mapping[str, list[Sample]],
    *,
    rounds: int,
    limit_s: float,
) -> None:
    """Fill `result`. `known` holds what each contender took on smaller files at that radius.

    Raises RuntimeError where two contenders count differently.
    """
    running = {}
    for name, contender in contenders.items():
        foretold = foretold_s(known.get(name, []), result.trips)
        if foretold > limit_s:
            result.foretold_s[name] = round(foretold)
        else:
            running[name] = contender
    for round_ in range(rounds + 1):
        for name, contender in list(running.items()):
            took = _timed(name, contender, path, result)
            once = took > ONCE_S
            if round_ or once:
                result.seconds.setdefault(name, []).append(round(took, 3))
            if once and not round_:
                del running[name]
            label = f"round {round_}" if round_ else "warm-up"
            print(
                f"{result.data}, {result.radius_m} m, {label}: {name} {took:.2f} s", file=sys.stderr
            )


def _timed(name: str, contender: Contender, path: Path, result: Result) -> float:
    ready = contender.prepare(path)
    start = time.perf_counter()
    pairs = contender.count(ready, float(result.radius_m))
    took = time.perf_counter() - start
    if result.pairs is None:
        result.pairs = pairs
    if pairs != result.pairs:
        raise RuntimeError(
            f"{name} counts {pairs} pairs on {result.data} at {result.radius_m} m, "
            f"those before it {result.pairs}"
        )
    return took

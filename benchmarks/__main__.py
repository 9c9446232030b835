"""`make bench`: count return trips with every contender in turn, and compare.

A round of warm-up, then interleaved rounds: every contender once a round, so that a slow minute of
the machine hits all of them. What takes more than a minute in the warm-up is not run again: that
time counts. All must find the same number. Prints tables, and writes them with every single time to
benchmarks/results/. The one day is the real one where SHARED_DATA has it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, contenders
from benchmarks.data import made_days, real_days
from jobs.session import code_version, open_session

RESULTS = Path(__file__).parent / "results"
BASE = "bucketed (Spark)"
_ONCE_S = 60.0


def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    cores = os.cpu_count() or 1
    spark = open_session("roundtrip benchmark")
    spark.sparkContext.setLogLevel("ERROR")
    folder = Path(args.data or tempfile.mkdtemp(prefix="roundtrip-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    field = {n: c for n, c in contenders(spark, folder, cores).items() if _wanted(n, args.only)}
    results: list[dict[str, Any]] = []
    for days in args.days:
        data, path = _data(days, folder)
        for radius_m in args.radii_m:
            results.append(_measure(field, data, path, radius_m, args.rounds))
            print("\n" + _markdown(results[-1]), flush=True)
            _write(results, cores)
    spark.stop()
    return 0


def _data(days: int, folder: Path) -> tuple[str, Path]:
    if days == 1 and (real := real_days(1, folder)):
        return "1 real day", real
    return f"{days} made day{'s' * (days > 1)}", made_days(days, folder)


def _write(results: list[dict[str, Any]], cores: int) -> None:
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_version(),
        "machine": {"cores": cores, "cpu": _cpu(), "python": platform.python_version()},
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "return_trips.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "return_trips.md").write_text("\n".join(map(_markdown, results)))


def _arguments() -> argparse.ArgumentParser:
    def numbers(text: str) -> list[int]:
        return [int(x) for x in text.split(",")]

    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--days", type=numbers, default=[1, 3], help="sizes (default 1,3)")
    made.add_argument("--radii-m", type=numbers, default=[200], help="radii (default 200)")
    made.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    made.add_argument("--only", default="", help="contenders whose name holds this")
    made.add_argument("--data", help="folder that keeps the data for the next run")
    return made


def _wanted(name: str, only: str) -> bool:
    return only in name or name == BASE


def _measure(
    field: dict[str, Contender], data: str, path: Path, radius_m: float, rounds: int
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in field}
    pairs: dict[str, int] = {}
    for round_ in range(rounds + 1):
        for name, count in field.items():
            if round_ and max(seconds[name], default=0) > _ONCE_S:
                continue
            start = time.perf_counter()
            n = count(path, float(radius_m))
            took = time.perf_counter() - start
            if pairs.setdefault(name, n) != n or n != next(iter(pairs.values())):
                raise RuntimeError(f"{name} counts {n} pairs on {data}, others {pairs}")
            if round_ or took > _ONCE_S:
                seconds[name].append(round(took, 3))
            label = f"round {round_}" if round_ else "warm-up"
            print(f"{data}, {radius_m} m, {label}: {name} {took:.2f} s", file=sys.stderr)
    medians = {name: round(statistics.median(s), 3) for name, s in seconds.items()}
    return {
        "data": data,
        "radius_m": radius_m,
        "pairs": next(iter(pairs.values())),
        "seconds": seconds,
        "median_s": medians,
        "times_bucketed": {name: round(m / medians[BASE], 2) for name, m in medians.items()},
    }


def _markdown(result: dict[str, Any]) -> str:
    lines = [
        f"{result['data']}, {result['radius_m']} m: {result['pairs']:,} pairs",
        "",
        "| contender | median s | min - max s | times bucketed |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, median in sorted(result["median_s"].items(), key=lambda x: x[1]):
        each = result["seconds"][name]
        lines.append(
            f"| {name} | {median:.2f} | {min(each):.2f} - {max(each):.2f} "
            f"| {result['times_bucketed'][name]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())

"""The duplicate stage alone, on made hashes and captions: seconds and peak memory of each part.

    python -m benchmarks.figure_copies [--examples 1600000] [--only "hashes 5"] [--only captions]

The parts are "hashes 5" and "hashes 8", by the bits that may differ, captions, and groups. Each
runs in a process of its own, so that its peak is its own: that of Python and of the JVM and of all
their workers, by /proc, added up every half second. On a session of the project's settings with two
cores. A twentieth of the hashes is near another one, a fiftieth equal to another one, and a
thousandth of all is one and the same, as a logo would be; captions likewise, of 5 to 80 words.
Images are not in it. What came out is in docs/figures-duplicates.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.session import open_session
from pipelines.figures.caption_pairs import caption_pairs
from pipelines.figures.hamming import pairs_within
from pipelines.figures.splits import assign_splits

PARTS = ("hashes 5", "hashes 8", "captions", "groups")
_CHUNK = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_600_000)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(_timed(args.inside, args.examples), flush=True)
        return
    print("| part | result | s | peak, GB |\n| --- | ---: | ---: | ---: |", flush=True)
    for part in args.only or PARTS:
        me = [sys.executable, "-m", "benchmarks.figure_copies", "--examples", str(args.examples)]
        subprocess.run([*me, "--inside", part], check=True)


def _timed(part: str, count: int) -> str:
    """One line of the table."""
    with TemporaryDirectory() as folder:
        path = f"{folder}/examples.parquet"
        _write(path, count)
        peak = _Peak()
        spark = open_session("figure copies", {"spark.master": "local[2]"})
        examples = spark.read.parquet(path)
        start = time.monotonic()
        found = _RUN[part.split()[0]](examples, part).count()
        seconds = time.monotonic() - start
        spark.stop()
    return f"| {part} | {found:,} | {seconds:.1f} | {peak.stop() / 1e9:.2f} |"


def _hashes(examples: DataFrame, part: str) -> DataFrame:
    hashes = examples.select("id", "hash")
    return pairs_within(hashes, distance=int(part.split()[1]), chances=3)


def _captions(examples: DataFrame, part: str) -> DataFrame:
    return caption_pairs(examples.select("id", "caption"))


def _groups(examples: DataFrame, part: str) -> DataFrame:
    """Groups and splits by articles of eight figures, and pairs of every tenth with another."""
    rows = examples.select(
        F.col("id").alias("example_id"),
        F.col("id").alias("figure_id"),
        F.lit(1).cast("bigint").alias("revision"),
        F.lit("made").alias("source"),
        F.sha2(F.col("id").cast("string"), 256).alias("sha256"),
        F.pmod(F.xxhash64("id"), F.lit(200_000)).cast("string").alias("article_id"),
        F.lit(None).cast("string").alias("patient_id"),
        F.lit("2026-01-01").cast("timestamp").alias("delivered_at"),
    )
    near = examples.where(F.pmod("id", F.lit(10)) == 0).select(
        F.col("id").alias("example_id"), (F.col("id") + 1).alias("other_id")
    )
    return assign_splits(rows, near)


_RUN: dict[str, Callable[[DataFrame, str], DataFrame]] = {
    "hashes": _hashes,
    "captions": _captions,
    "groups": _groups,
}


def _write(path: str, count: int) -> None:
    rng = np.random.default_rng(11)
    vocabulary = np.array([f"word{i}" for i in range(30_000)], dtype=object)
    schema = pa.schema([("id", pa.int64()), ("hash", pa.int64()), ("caption", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            hashes = rng.integers(0, 2**64, size, np.uint64)
            near = rng.integers(0, size, size // 20)
            flips = rng.integers(0, 64, (4, len(near))).astype(np.uint64)
            hashes[-len(near) :] = hashes[near] ^ np.bitwise_or.reduce(
                np.uint64(1) << flips, axis=0
            )
            hashes[: size // 50] = hashes[size // 50 : size // 50 * 2]
            hashes[::1000] = 42
            lengths = rng.integers(5, 81, size)
            # As in language, few words are frequent.
            drawn = vocabulary[(30_000 * rng.random(int(lengths.sum())) ** 3).astype(int)]
            words = np.split(drawn, np.cumsum(lengths)[:-1])
            for i, j in enumerate(near):
                words[-1 - i] = np.append(words[j], "arrow")
            captions = [" ".join(w) for w in words]
            captions[::1000] = ["Written informed consent was obtained."] * len(captions[::1000])
            ids = np.arange(start, start + size)
            writer.write_table(pa.table([ids, hashes.view(np.int64), captions], schema=schema))


class _Peak:
    """Most memory that this process and its descendants had at once, in bytes (PSS)."""

    def __init__(self) -> None:
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self._most = max(self._most, sum(map(_pss, _family(Path("/proc/self").resolve().name))))


def _family(pid: str) -> list[str]:
    children: dict[str, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:  # ended meanwhile
            continue
        children.setdefault(parent, []).append(stat.parent.name)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _pss(pid: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    main()

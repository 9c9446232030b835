"""Images a second: the image stage on Spark, beside the same functions without it, and others.

    python -m benchmarks.figure_images --images FOLDER [--copies 80] [--rounds 3]
        [--peers-python PATH] [--cores 2]

The files below FOLDER are repeated `--copies` times into Parquet files that every contender reads.
What takes part:

- decode: every image in full by simplejpeg (libjpeg-turbo), nothing else, in processes of Python;
- multiprocessing: the stage's functions in processes of Python, parts sent back as a writer needs;
- Spark: `images_of` from Parquet to a sink that drops the rows;
- datasets.map (Hugging Face) and Daft, with the stage's functions, where `--peers-python` names an
  interpreter that has them, pillow, simplejpeg, cykooz.resizer and numpy.

Rounds are interleaved after one of warm-up; the table has medians. Starting Spark or a pool of
processes is not in them. The bars: Spark at least 0.9 of multiprocessing, and at least 0.45 of
decode.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

from jobs.session import open_session
from pipelines.figures.images import READ_CONF, images_of
from udfs.images.parts import Rules, parts_of

ROOT = Path(__file__).resolve().parents[1]
SPARK, PROCESSES, DECODE = "Spark", "multiprocessing", "decode"
BARS = {PROCESSES: 0.9, DECODE: 0.45}
PEERS = ("datasets", "daft")
_FILES_PER_CORE = 4
_CHUNK = 32

Contender = Callable[[], tuple[int, float]]
"""Does all images; returns how many and the seconds that count."""


def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="figure-images-")))
        few = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="figure-images-few-")))
        images = write_figures(args.images, folder, args.copies, args.cores * _FILES_PER_CORE)
        write_figures(args.images, few, 1, args.cores)
        contenders: dict[str, Contender] = {
            name: stack.enter_context(_processes(function, folder, args.cores))
            for name, function in ((DECODE, _decode), (PROCESSES, _parts))
        }
        contenders[SPARK] = stack.enter_context(_spark(folder, few, args.cores))
        if args.peers_python:
            for peer in PEERS:
                contenders[peer] = _peer(args.peers_python, peer, folder, args.cores)
        print(table(rates(contenders, images, args.rounds), images), flush=True)
    return 0


def write_figures(images: Path, folder: Path, copies: int, files: int) -> int:
    """Parquet files with the columns that `images_of` takes; returns how many rows they have."""
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    contents = [path.read_bytes() for path in paths] * copies
    for file in range(files):
        mine = contents[file::files]
        rows = {
            "figure_id": pa.array(range(len(mine)), pa.int64()),
            "revision": pa.array([0] * len(mine), pa.int64()),
            "image": pa.array(mine, pa.binary()),
            "sha256": pa.array(["0" * 64] * len(mine)),
            "format": pa.array(["folder"] * len(mine)),
            "panel_captions": pa.array([[]] * len(mine), pa.list_(pa.string())),
        }
        pq.write_table(pa.table(rows), folder / f"{file}.parquet", compression="none")
    return len(contents)


def rates(contenders: dict[str, Contender], images: int, rounds: int) -> dict[str, float]:
    """Median images a second of each; raises RuntimeError where one has not done them all."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, contender in contenders.items():
            done, took = contender()
            if done != images:
                raise RuntimeError(f"{name} did {done} images of {images}")
            if round_:
                seconds[name].append(took)
            print(f"round {round_}: {name} {took:.2f} s", file=sys.stderr)
    return {name: images / statistics.median(s) for name, s in seconds.items()}


def table(found: dict[str, float], images: int) -> str:
    """The rates in Markdown, and Spark's share of each with its bar."""
    lines = [
        f"{images} images, median of the rounds",
        "",
        "| what | images/s | Spark's share of it | bar |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, rate in found.items():
        share = "" if name == SPARK else f"{found[SPARK] / rate:.2f}"
        lines.append(f"| {name} | {rate:.0f} | {share} | {BARS.get(name, '')} |")
    return "\n".join(lines)


@contextmanager
def _processes(
    function: Callable[[list[bytes]], list[Any]], folder: Path, cores: int
) -> Iterator[Contender]:
    # One reads and the others work, so that no process waits for a file.
    with get_context("spawn").Pool(cores) as pool:

        def run() -> tuple[int, float]:
            start = time.perf_counter()
            done = sum(len(done) for done in pool.imap_unordered(function, _chunks(folder)))
            return done, time.perf_counter() - start

        yield run


def _chunks(folder: Path) -> Iterator[list[bytes]]:
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(_CHUNK, columns=["image"]):
            yield batch.column(0).to_pylist()


def _decode(images: list[bytes]) -> list[int]:
    return [simplejpeg.decode_jpeg(image).size for image in images]


def _parts(images: list[bytes]) -> list[Any]:
    rules = Rules()
    return [vars(part) for image in images for part in parts_of(image, "folder", 0, rules)]


@contextmanager
def _spark(folder: Path, few: Path, cores: int) -> Iterator[Contender]:
    conf = {"spark.master": f"local[{cores},4]", **READ_CONF}
    spark: SparkSession = open_session("image stage", conf)
    spark.sparkContext.setLogLevel("ERROR")
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", "16m")
    # A file a task: Parquet files this small would share one.
    spark.conf.set("spark.sql.files.openCostInBytes", str(2**30))

    def stage(files: Path) -> int:
        parts = images_of(spark.read.parquet(str(files)))
        counted = Observation()
        # What has an image has a width, and to count images is to copy each once more.
        seen = parts.observe(counted, F.count("width").alias("images"))
        seen.write.format("noop").mode("overwrite").save()
        return int(counted.get["images"])

    def run() -> tuple[int, float]:
        stage(few)  # Spark ends workers that had nothing to do for a minute: have them started
        start = time.perf_counter()
        done = stage(folder)
        return done, time.perf_counter() - start

    yield run
    spark.stop()


def _peer(python: str, peer: str, folder: Path, cores: int) -> Contender:
    """A peer in its own environment; it tells how long it took without its start."""
    command = [python, "-m", "benchmarks.peers.figure_peers", peer, str(folder), str(cores)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run() -> tuple[int, float]:
        ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        told = json.loads(ran.stdout.splitlines()[-1])
        return int(told["images"]), float(told["seconds"])

    return run


def _arguments() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.figure_images", description=__doc__.splitlines()[0]
    )
    made.add_argument("--images", type=Path, required=True, help="folder of JPEG files")
    made.add_argument("--copies", type=int, default=80, help="times each is taken (default 80)")
    made.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    made.add_argument("--cores", type=int, default=2, help="processes, or Spark's (default 2)")
    made.add_argument("--peers-python", help="interpreter that has datasets, daft and the codecs")
    return made


if __name__ == "__main__":
    sys.exit(main())

"""The feed of training beside MosaicML Streaming, WebDataset and Hugging Face datasets.

    python -m benchmarks.training_feed --images FOLDER [--copies 40] [--rounds 5]
        [--peers-python PATH] [--cores 2]

The images below FOLDER, as the image stage stores them, are repeated `--copies` times, told apart
by bytes behind each, into gold.vlm_examples as prepare_captions writes it. The peers get their own
formats of it, in the same order; what that takes is a column of its own. They need
`--peers-python`, an interpreter with mosaicml-streaming, webdataset, datasets, torch, pillow,
simplejpeg and pyarrow.

The feed finds its token ids in the lake; the peers have images alone. Each contender goes through
all examples once in a process of its own, from opening to the last; rounds are interleaved after
one of warm-up, so files are in the page cache; the tables have medians. Encoded: images as bytes,
copied out of the files, one process. Decoded: 224 px tensors of bytes, by threads or processes on
all cores. The feed decodes as in training (`ml/models/processor.py`), and so does decoding alone;
peers with libjpeg-turbo and Pillow, as their users do, which takes longer.

How well the order is shuffled is counted over examples by their place in the table, from 0 to 1:
the correlation of place and turn, the mean distance of neighbours, and in how many of 16 equal
stretches of the table the 32 examples of a batch are; a random order has 0, 0.333 and 14.0.

The bars: encoded at least 3 times the fastest peer, shuffled as well as Streaming, a first batch
within a second; decoded at least 0.95 of decoding alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feed_contenders import TOKENIZER
from benchmarks.feed_pass import BATCH
from benchmarks.report import RESULTS, write_json
from jobs.lake import Lake
from jobs.session import open_session
from ml.models.made_llm import trained_tokenizer
from pipelines.figures.token_ids import token_ids_of
from schemas import TOKEN_IDS, VLM_EXAMPLES
from udfs.images.parts import Rules, parts_of

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("streaming", "webdataset", "datasets", "datasets-streaming")
STRETCHES = 16
_ROW_GROUP_BYTES = 8 << 20  # as prepare_captions
_EXAMPLES_A_FILE = 10_000

Pass = dict[str, float]
Contender = Callable[[Path], Pass]
"""Goes through all examples, writes their ids in order to the file, and tells what it took."""


def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="training-feed-") as temporary:
        folder = Path(temporary)
        table = folder / "lake" / VLM_EXAMPLES.relative_path
        examples, image_bytes = write_examples(args.images, folder, args.copies)
        print(f"{examples} images of {image_bytes / 1000:.1f} kB", file=sys.stderr)
        converted = {}
        peers = PEERS if args.peers_python else ()
        for peer in peers:
            converted[peer] = _told(
                args.peers_python, "peers.feed_peers", "convert", peer, table, folder / peer
            )["seconds"]
        cores = args.cores
        encoded = {n: _ours(n, table, cores) for n in ("encoded", "pass", "copy")}
        encoded |= {p: _peer(args.peers_python, "encoded", p, folder, cores) for p in peers}
        ours = ("decoded", "decode-threads", "decode-batches", "decode-processes")
        decoded = {n: _ours(n, table, cores) for n in ours}
        decoded |= {p: _peer(args.peers_python, "decoded", p, folder, cores) for p in peers}
        found = {
            "encoded": measured(encoded, examples, args.rounds, folder),
            "decoded": measured(decoded, examples, args.rounds, folder),
        }
    report = table_of(found["encoded"], "encoded", converted)
    report += "\n\n" + table_of(found["decoded"], "decode-batches", converted)
    report = f"{examples} images of {image_bytes / 1000:.1f} kB\n\n{report}\n"
    print(report, flush=True)
    if args.write:
        facts = {"examples": examples, "image_bytes": image_bytes, "conversion_s": converted}
        write_json(RESULTS, "training_feed", {**facts, **found})
        (RESULTS / "training_feed.md").write_text(report)
    return 0


def write_examples(images: Path, folder: Path, copies: int) -> tuple[int, float]:
    """gold.vlm_examples in the lake below `folder`; how many, and the mean bytes of an image."""
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    rules = Rules()
    stored = [parts_of(path.read_bytes(), "folder", 0, rules)[0].image or b"" for path in paths]
    count = len(stored) * copies // BATCH * BATCH
    contents = [stored[i % len(stored)] + i.to_bytes(8, "big") for i in range(count)]
    ids = pa.array(range(count), pa.int64())
    known = {
        "example_id": ids,
        "image": pa.array(contents, pa.binary()),
        "text": pa.array([f"An image of the chest, number {i:06}." for i in range(count)]),
        "split": pa.array(["train"] * count),
        "group_id": ids,
        "order_key": ids,
    }
    made = folder / "made.parquet"
    pq.write_table(pa.table(known), made, compression="none", row_group_size=500)
    spark = open_session(
        "training feed", {"parquet.block.size": str(_ROW_GROUP_BYTES), "spark.ui.enabled": "false"}
    )
    spark.sparkContext.setLogLevel("ERROR")
    rows = spark.read.parquet(str(made))
    unknown = [c for c in VLM_EXAMPLES.columns if c.name not in known]
    rows = rows.selectExpr(
        "*", *(f"CAST(0 AS {c.type.simpleString()}) AS {c.name}" for c in unknown)
    )
    files = -(-count // _EXAMPLES_A_FILE)
    rows = rows.repartitionByRange(files, "order_key").sortWithinPartitions("order_key")
    lake = Lake(spark, str(folder / "lake"))
    lake.check_root()
    lake.append(VLM_EXAMPLES, rows)
    words = trained_tokenizer(["An image of the chest and its number."], 400)
    words.save_pretrained(folder / TOKENIZER)
    texts = rows.selectExpr("example_id", "'' AS prompt", "text AS answer")
    lake.append(TOKEN_IDS, token_ids_of(texts, folder / TOKENIZER))
    spark.stop()
    made.unlink()
    return count, sum(map(len, contents)) / count


def measured(
    contenders: dict[str, Contender], examples: int, rounds: int, folder: Path
) -> dict[str, dict[str, object]]:
    """Every single pass, medians, and how well shuffled; RuntimeError where examples are lost."""
    passes: dict[str, list[Pass]] = {name: [] for name in contenders}
    shuffled = {}
    for round_ in range(rounds + 1):
        for name, contender in contenders.items():
            told = contender(folder / "order.json")
            order = np.array(json.loads((folder / "order.json").read_text()))
            if not np.array_equal(np.sort(order), np.arange(examples)):
                raise RuntimeError(f"{name} gave {len(order)} examples of {examples}, or others")
            shuffled[name] = shuffle_quality(order)
            if round_:
                passes[name].append(told)
            rate = examples / told["seconds"]
            print(f"round {round_}: {name} {rate:,.0f} examples/s", file=sys.stderr)
    return {
        name: {
            "examples_per_s": round(examples / _median(p["seconds"] for p in each)),
            "examples_per_cpu_s": round(examples / _median(p["cpu_seconds"] for p in each)),
            "first_batch_s": round(_median(p["first_batch_seconds"] for p in each), 3),
            "shuffle": shuffled[name],
            "passes": each,
        }
        for name, each in passes.items()
    }


def shuffle_quality(order: np.ndarray) -> dict[str, float]:
    """How near to random an order of places in the table is."""
    place = order / len(order)
    batches = (place[: len(place) // BATCH * BATCH] * STRETCHES).astype(int).reshape(-1, BATCH)
    return {
        "correlation": round(float(np.corrcoef(place, np.arange(len(place)))[0, 1]), 3),
        "neighbours": round(float(np.abs(np.diff(place)).mean()), 3),
        "stretches": round(statistics.mean(len(set(batch)) for batch in batches.tolist()), 1),
    }


def table_of(found: dict[str, dict[str, object]], base: str, converted: dict[str, float]) -> str:
    """The results in Markdown, with what each is of `base`."""
    lines = [
        f"| what | examples/s | of {base} | examples/CPU s | first batch s | correlation "
        "| neighbours | stretches | conversion s |",
        "| --- |" + " ---: |" * 8,
    ]
    for name, told in found.items():
        rate, of = (int(str(found[n]["examples_per_s"])) for n in (name, base))
        shuffle = told["shuffle"]
        assert isinstance(shuffle, dict)
        spent = f"{converted[name]:.1f}" if name in converted else ""
        lines.append(
            f"| {name} | {rate:,} | {rate / of:.2f} | {told['examples_per_cpu_s']:,} "
            f"| {told['first_batch_s']} | {shuffle['correlation']} | {shuffle['neighbours']} "
            f"| {shuffle['stretches']} | {spent} |"
        )
    return "\n".join(lines)


def _ours(what: str, table: Path, cores: int) -> Contender:
    return lambda order: _told(sys.executable, "feed_contenders", what, table, order, cores)


def _peer(python: str, what: str, peer: str, folder: Path, cores: int) -> Contender:
    return lambda order: _told(python, "peers.feed_peers", what, peer, folder / peer, order, cores)


def _told(python: str, module: str, *argv: object) -> Pass:
    command = [python, "-m", f"benchmarks.{module}", *map(str, argv)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    told: Pass = json.loads(ran.stdout.splitlines()[-1])
    return told


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _arguments() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.training_feed", description=__doc__.splitlines()[0]
    )
    made.add_argument("--images", type=Path, required=True, help="folder of JPEG files")
    made.add_argument("--copies", type=int, default=40, help="times each is taken (default 40)")
    made.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    made.add_argument("--cores", type=int, default=2, help="threads or processes that decode")
    made.add_argument("--peers-python", help="interpreter that has the peers")
    made.add_argument("--write", action="store_true", help="into benchmarks/results/")
    return made


if __name__ == "__main__":
    sys.exit(main())

"""MosaicML Streaming, WebDataset and Hugging Face datasets over the images of a table.

    PYTHONPATH=ROOT PYTHON -m benchmarks.peers.feed_peers convert PEER PARQUET FOLDER
    PYTHONPATH=ROOT PYTHON -m benchmarks.peers.feed_peers encoded|decoded PEER FOLDER ORDER CORES

The environment needs mosaicml-streaming, webdataset, datasets, torch, pillow, simplejpeg, pyarrow.
`convert` writes a peer's own format from the table's Parquet files, in their order; the others go
through it once, shuffled as the peer's documentation recommends, and print what `timed_pass`
measured as JSON. Encoded images are read in this process; decoded ones by a DataLoader of as many
processes as there are cores.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.feed_pass import BATCH, SEED, SIDE_PX, Batches, in_batches, timed_pass

_SHARD_BYTES = 1 << 26  # what Streaming and WebDataset recommend
_BUFFER = 1000  # examples in the shuffle buffers of WebDataset and datasets

Example = tuple[int, Any]


def _stored(parquet: Path) -> Iterator[tuple[int, bytes]]:
    import pyarrow.parquet as pq

    for path in sorted(parquet.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(64, columns=["example_id", "image"]):
            yield from zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True)


class Streaming:
    """MDS shards; py1e, its shuffle by default, over the whole of so small a set."""

    def convert(self, parquet: Path, folder: Path) -> None:
        from streaming import MDSWriter

        columns = {"id": "int", "image": "bytes"}
        with MDSWriter(out=str(folder), columns=columns, size_limit=_SHARD_BYTES) as writer:
            for example_id, image in _stored(parquet):
                writer.write({"id": example_id, "image": image})

    def dataset(self, folder: Path, cores: int) -> Iterable[dict[str, Any]]:
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        made: Iterable[dict[str, Any]] = StreamingDataset(
            local=str(folder), shuffle=True, shuffle_seed=SEED, batch_size=BATCH
        )
        return made

    def example(self, row: dict[str, Any]) -> Example:
        return int(row["id"]), row["image"]


class WebDataset:
    """Tar files; they are shuffled, then examples within a buffer."""

    def convert(self, parquet: Path, folder: Path) -> None:
        import webdataset

        with webdataset.ShardWriter(
            f"{folder}/%06d.tar", maxsize=_SHARD_BYTES, maxcount=10**9, verbose=0
        ) as writer:
            for example_id, image in _stored(parquet):
                writer.write({"__key__": f"{example_id:09d}", "jpg": image})

    def dataset(self, folder: Path, cores: int) -> Iterable[dict[str, Any]]:
        import webdataset

        shards = sorted(str(path) for path in folder.glob("*.tar"))
        # A process takes whole shards; more processes than shards would leave some with none.
        made: Iterable[dict[str, Any]] = webdataset.WebDataset(
            shards, shardshuffle=len(shards), seed=SEED, empty_check=False,
            workersplitter=webdataset.split_by_worker,
        ).shuffle(_BUFFER, seed=SEED)  # fmt: skip
        return made

    def example(self, row: dict[str, Any]) -> Example:
        return int(row["__key__"]), row["jpg"]


class HuggingFace:
    """An Arrow file, mapped into memory; a permutation of all rows."""

    def convert(self, parquet: Path, folder: Path) -> None:
        import datasets

        columns = ["example_id", "image"]
        files = sorted(str(path) for path in parquet.glob("*.parquet"))
        rows = datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=f"{folder}/cache", columns=columns
        )
        rows.save_to_disk(f"{folder}/saved")

    def dataset(self, folder: Path, cores: int) -> Any:
        import datasets

        return datasets.load_from_disk(f"{folder}/saved").shuffle(seed=SEED)

    def example(self, row: dict[str, Any]) -> Example:
        return int(row["example_id"]), row["image"]


class HuggingFaceStreaming(HuggingFace):
    """The table's own Parquet files, read as a stream with a shuffle buffer: no conversion."""

    def convert(self, parquet: Path, folder: Path) -> None:
        (folder / "files").write_text("\n".join(sorted(map(str, parquet.glob("*.parquet")))))

    def dataset(self, folder: Path, cores: int) -> Any:
        import datasets

        files = (folder / "files").read_text().splitlines()
        rows = datasets.load_dataset(
            "parquet", data_files=files, split="train", streaming=True,
            columns=["example_id", "image"],
        )  # fmt: skip
        return rows.shuffle(seed=SEED, buffer_size=_BUFFER)


PEERS: dict[str, Any] = {
    "streaming": Streaming,
    "webdataset": WebDataset,
    "datasets": HuggingFace,
    "datasets-streaming": HuggingFaceStreaming,
}


def encoded(peer: Any, folder: Path) -> Batches:
    rows = peer.dataset(folder, 0)
    if type(peer) is HuggingFace:  # a batch at a time is its quickest way
        return (
            list(zip(batch["example_id"], batch["image"], strict=True))
            for batch in rows.iter(batch_size=BATCH)
        )
    return in_batches(map(peer.example, rows))


def pixels(content: bytes) -> Any:
    """An image file as a tensor of uint8 [SIDE_PX, SIDE_PX, 3], by libjpeg-turbo and Pillow.

    Floats are made of it where the model is, on a GPU as a rule.
    """
    import numpy as np
    import simplejpeg
    import torch
    from PIL import Image

    try:
        decoded = simplejpeg.decode_jpeg(content, min_height=SIDE_PX, min_width=SIDE_PX)
        whole = Image.fromarray(decoded)
    except ValueError:  # PNG, of which some corpora have a few
        whole = Image.open(io.BytesIO(content)).convert("RGB")
    return torch.from_numpy(np.array(whole.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)))


class _Decoded:
    """What a DataLoader's processes do: rows to ids and pixels."""

    def __init__(self, example: Callable[[Any], Example]) -> None:
        self._example = example

    def __call__(self, rows: list[Any]) -> tuple[list[int], Any]:
        import torch

        ids, images = zip(*map(self._example, rows), strict=True)
        return list(ids), torch.stack([pixels(image) for image in images])


def decoded(peer: Any, folder: Path, cores: int) -> Batches:
    from torch.utils.data import DataLoader

    rows = peer.dataset(folder, cores)
    loader = DataLoader(
        rows, batch_size=BATCH, num_workers=cores, collate_fn=_Decoded(peer.example)
    )
    for ids, images in loader:
        yield list(zip(ids, images, strict=True))


def main() -> int:
    what, name = sys.argv[1], sys.argv[2]
    peer = PEERS[name]()
    __import__(name.split("-")[0])  # which is not timed
    if what == "convert":
        folder = Path(sys.argv[4])
        folder.mkdir(parents=True)
        start = time.perf_counter()
        peer.convert(Path(sys.argv[3]), folder)
        print(json.dumps({"seconds": time.perf_counter() - start}))
        return 0
    folder, order, cores = Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])
    if what == "decoded":
        import torch

        torch.set_num_threads(1)
        told = timed_pass(lambda: decoded(peer, folder, cores), order)
    else:
        told = timed_pass(lambda: encoded(peer, folder), order)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())

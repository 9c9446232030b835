"""The image stage's functions under Hugging Face datasets and Daft, in an environment of their own.

    PYTHONPATH=ROOT PYTHON -m benchmarks.peers.figure_peers datasets|daft FOLDER CORES

FOLDER holds the Parquet files of benchmarks/figure_images.py. The environment needs the peer,
pillow, simplejpeg, cykooz.resizer, numpy and pyarrow. Prints a JSON object: images done, and the
seconds without imports.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from udfs.images.parts import Rules, parts_of


def _image_of(content: bytes) -> bytes:
    (part,) = parts_of(content, "folder", 0, Rules())
    return part.image or b""


def with_datasets(folder: Path, cores: int) -> int:
    """`Dataset.map` in as many processes, to Arrow files as it always writes."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset(
            "parquet", data_files=str(folder / "*.parquet"), split="train", cache_dir=cache
        )
        done = rows.map(
            lambda row: {"small": _image_of(row["image"])},
            num_proc=cores,
            remove_columns=rows.column_names,
        )
        return sum(1 for image in done.with_format("arrow")["small"] if image)


def with_daft(folder: Path, cores: int) -> int:
    """A class on a column, on Daft's own runner, in as many processes."""
    import daft

    @daft.cls(max_concurrency=cores, use_process=True)
    class Stage:
        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=64)
        def small(self, images: Any) -> list[bytes]:
            return [_image_of(image) for image in images.to_pylist()]

    frame = daft.read_parquet(str(folder / "*.parquet"))
    done = frame.select(Stage().small(frame["image"]).alias("small"))
    return int(done.count("small").to_pydict()["small"][0])


PEERS: dict[str, Callable[[Path, int], int]] = {"datasets": with_datasets, "daft": with_daft}


def main() -> int:
    peer, folder, cores = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    __import__(peer)
    start = time.perf_counter()
    images = PEERS[peer](folder, cores)
    print(json.dumps({"images": images, "seconds": time.perf_counter() - start}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

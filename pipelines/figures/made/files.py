"""Made figures as a corpus ships them: WebDataset shards, or PMC-OA's lists and images."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.figures.made.figure import Figure, made_figures
from pipelines.figures.made.plan import VOLUME, Order
from pipelines.figures.made.questions import asked_image
from pipelines.files import write_whole

FORMATS = ("webdataset", "pmc-oa")
PREFIX = "made_"
"""How the name of a made file begins, so that nobody takes it for a real one."""

TRUTH = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("article_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string()),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("modality", pa.string()),
        pa.field("panels", pa.int32(), nullable=False),
        pa.field("copy_of", pa.int64()),
        pa.field("copy", pa.string()),
        pa.field("image_dirt", pa.string()),
        pa.field("caption_dirt", pa.string()),
        pa.field("facts", pa.string(), nullable=False),
    ]
)
"""What is true of each figure, to measure by; for the columns see `figure.Figure`."""


@dataclass(frozen=True)
class Volume:
    """A shard or list that was written: its figures, and the bytes of it and of its images."""

    path: str
    figures: int
    bytes: int


def volumes(count: int) -> int:
    """How many files `count` figures make."""
    return -(-count // VOLUME)


def write_volume(order: Order, volume: int, count: int, format_: str, folder: Path) -> Volume:
    """Write one volume of `count` figures in all to figures/ and its truth to truth/.

    Each file is written whole or not at all; a PMC-OA list comes after its images.
    """
    name = f"{PREFIX}{volume:06d}"
    start, end = volume * VOLUME, min(count, (volume + 1) * VOLUME)
    figures = made_figures(order, start, end)
    truth: dict[str, list] = {column: [] for column in TRUTH.names}
    known = _noted(figures, truth)
    if format_ == "webdataset":
        path = folder / "figures" / f"{name}.tar"
        write_whole(path, lambda out: _write_shard(out, known))
        size = path.stat().st_size
    else:
        path = folder / "figures" / f"{name}.jsonl"
        lines = [_list_line(figure, path.parent / "images") for figure in known]
        text = "".join(line for line, _ in lines).encode()
        write_whole(path, lambda out: out.write(text))
        size = len(text) + sum(bytes_ for _, bytes_ in lines)
    table = pa.table(truth, schema=TRUTH)
    write_whole(
        folder / "truth" / f"{name}.parquet",
        lambda out: pq.write_table(table, out, compression="zstd"),
    )
    return Volume(str(path), end - start, size)


def _noted(figures: Iterator[Figure], truth: dict[str, list]) -> Iterator[Figure]:
    for figure in figures:
        for column, values in truth.items():
            values.append(getattr(figure, column))
        yield figure


def _record(figure: Figure) -> dict[str, str | None]:
    return {
        "image": figure.name,
        "caption": figure.caption,
        "pmcid": figure.article_id,
        "patient_id": figure.patient_id,
        "licence": figure.licence,
        "made": "true",  # pages say so
    }


def _write_shard(out: IO[bytes], figures: Iterator[Figure]) -> None:
    """A tar with NAME.jpg (or another ending) and NAME.json for each figure."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for figure in figures:
            key = figure.name.rpartition(".")[0]
            if figure.image is not None:
                _add(tar, figure.name, figure.image)
            text = json.dumps(_record(figure), ensure_ascii=False)
            _add(tar, f"{key}.json", text.encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # without time and owner: equal figures are equal shards
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _list_line(figure: Figure, images: Path) -> tuple[str, int]:
    """The figure's line, after its image was written, and the image's bytes."""
    data = figure.image
    if data is not None:
        write_whole(images / figure.name, lambda out: out.write(data))
    return json.dumps(_record(figure), ensure_ascii=False) + "\n", len(data or b"")


@dataclass(frozen=True)
class Questions:
    """Of one image: its file's name, the figure that it copies, and its questions as JSON."""

    image_name: str
    copy_of: int | None
    questions: str


def write_questions(order: Order, number: int, figures: int, folder: Path) -> Questions:
    """Write the n-th image with questions to vqa/images/ and return what is asked about it."""
    name, image, copied, rows = asked_image(order, number, figures)
    write_whole(folder / "vqa" / "images" / name, lambda out: out.write(image))
    return Questions(name, copied, json.dumps(rows))

"""Made days as files in the layout of 2015's yellow cabs, CSV or Parquet."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.files import write_whole
from pipelines.trips.made.day import MadeDay, made_day
from pipelines.trips.made.dirt import DIRT, FLAWS, TYPED_DIRT, Change, Row, deal

FORMATS = ("csv", "csv.gz", "parquet")
PREFIX = "made_"
"""How the name of a made file begins, so that nobody takes it for a real one."""

_FLAWS_PER_DIRTY_ROW = 0.1  # of each kind
_GZIP_LEVEL = 4


@dataclass(frozen=True)
class Order:
    """What to make. The file of a day depends on these and the day alone, not on other days."""

    trips_per_day: int
    seed: int
    dirty_share: float
    commuter_share: float
    format: str


@dataclass(frozen=True)
class Made:
    """A file that was written: its data rows, and how many rows have each kind of dirt or flaw."""

    path: str
    bytes: int
    rows: int
    commuter_rows: int
    dirty: Mapping[str, int]
    flawed: Mapping[str, int]


def write_day(day: date, order: Order, folder: str) -> Made:
    """Make a day and write it, whole or not at all, to `folder` as made_yellow_DAY.FORMAT.

    `trips_per_day` rows, of which `dirty_share` are to be rejected by ingestion.
    """
    made = made_day(day, order.trips_per_day, seed=order.seed, commuter_share=order.commuter_share)
    # A stream of its own: the trips that stay clean do not depend on how many are dirty.
    rng = np.random.default_rng([order.seed, day.toordinal(), 1])
    in_text = order.format != "parquet"
    dirt = DIRT if in_text else TYPED_DIRT
    dirty = round(order.trips_per_day * order.dirty_share)
    kinds = deal(dirty, tuple(dirt), rng)
    if in_text:
        flawed = min(round(dirty * _FLAWS_PER_DIRTY_ROW) * len(FLAWS), order.trips_per_day - dirty)
        kinds += deal(flawed, tuple(FLAWS), rng)
    where = rng.permutation(order.trips_per_day)[: len(kinds)]
    write = _write_csv if in_text else _write_parquet
    path = Path(folder, f"{PREFIX}yellow_{day}.{order.format}")
    write_whole(path, lambda out: write(out, _table(made), where, kinds, rng, order.format))
    found = Counter(kinds)
    return Made(
        path=str(path),
        bytes=path.stat().st_size,
        rows=order.trips_per_day,
        commuter_rows=int(made.commuter.sum()),
        dirty={k: found[k] for k in dirt},
        flawed={k: found[k] for k in FLAWS},
    )


def _table(made: MadeDay) -> pa.Table:
    n = len(made.pickup_s)
    wall = pa.timestamp("s")
    return pa.table(
        {
            "VendorID": made.vendor,
            "tpep_pickup_datetime": pa.array(made.pickup_s, wall),
            "tpep_dropoff_datetime": pa.array(made.dropoff_s, wall),
            "passenger_count": made.passengers,
            "trip_distance": made.distance_mi,
            "pickup_longitude": made.pickup_lon,
            "pickup_latitude": made.pickup_lat,
            "RateCodeID": made.rate_code,
            "store_and_fwd_flag": pa.repeat("N", n),
            "dropoff_longitude": made.dropoff_lon,
            "dropoff_latitude": made.dropoff_lat,
            "payment_type": made.payment_type,
            "fare_amount": made.fare_usd,
            "extra": made.extra_usd,
            "mta_tax": pa.repeat(0.5, n),
            "tip_amount": made.tip_usd,
            "tolls_amount": made.tolls_usd,
            "improvement_surcharge": pa.repeat(0.3, n),
            "total_amount": made.total_usd,
        }
    )


def _broken(
    table: pa.Table, where: np.ndarray, kinds: list[str], rng: np.random.Generator
) -> list[Row]:
    """The rows at `where` as text, each broken as its kind says."""
    changes: dict[str, Change] = {**DIRT, **FLAWS}
    texts = pa.table({c: table[c].take(where).cast(pa.string()) for c in table.column_names})
    rows = texts.to_pylist()
    for row, kind in zip(rows, kinds, strict=True):
        changes[kind](row, rng)
    return rows


def _write_csv(
    out: IO[bytes],
    table: pa.Table,
    where: np.ndarray,
    kinds: list[str],
    rng: np.random.Generator,
    format_: str,
) -> None:
    texts = [table[c].combine_chunks().cast(pa.string()) for c in table.column_names]
    lines = pc.binary_join_element_wise(*texts, ",")
    broken = _broken(table, where, kinds, rng)
    order = np.argsort(where)
    mask = np.zeros(len(table), dtype=bool)
    mask[where] = True
    replaced = pa.array([",".join(broken[i].values()) for i in order], pa.string())
    lines = pc.replace_with_mask(lines, pa.array(mask), replaced)
    text = pc.binary_join_element_wise(lines, "", "\n")
    stream: IO[bytes] | gzip.GzipFile = out
    if format_ == "csv.gz":  # without name and time, so that equal days are equal files
        stream = gzip.GzipFile("", "wb", _GZIP_LEVEL, out, mtime=0)
    stream.write((",".join(table.column_names) + "\n").encode())
    for chunk in text.chunks if isinstance(text, pa.ChunkedArray) else [text]:
        offsets = np.frombuffer(chunk.buffers()[1], np.int32)
        start, end = offsets[chunk.offset], offsets[chunk.offset + len(chunk)]
        stream.write(memoryview(chunk.buffers()[2])[start:end])
    if stream is not out:
        stream.close()


def _write_parquet(
    out: IO[bytes],
    table: pa.Table,
    where: np.ndarray,
    kinds: list[str],
    rng: np.random.Generator,
    format_: str,
) -> None:
    broken = _broken(table, where, kinds, rng)
    columns = {}
    for field in table.schema:
        texts = pa.array([row[field.name] or None for row in broken], pa.string())
        values = texts.cast(field.type)
        columns[field.name] = pa.concat_arrays([table[field.name].combine_chunks(), values])
    source = np.arange(len(table))
    source[where] = len(table) + np.arange(len(where))
    pq.write_table(pa.table(columns).take(source), out, compression="zstd")

"""Every two perceptual hashes that differ in few bits meet, and no others are compared.

Distinct hashes are searched, not examples, see `udfs.hamming`. The search is cut by the highest
bits of each band: a hash lies where its own bits say, and is sent to every part that a flip of
these bits leads to. So a part holds what its look-ups may find, and no task needs all hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.figures.stars import centres, star
from udfs.hamming import BITS, Band, band_pairs_among, band_pairs_between, bands_for, joined

MAX_DISTANCE = 10
"""In bits: farther hashes say nothing, and the look-ups grow with the power of the distance."""

_PER_PART = 1 << 19
"""Hashes of a part, about, where they are spread evenly."""

# Why a hash is in a part. Whether an old one is looked up there is the only other question.
_NEW, _NEW_FROM_ABOVE, _NEW_FROM_BELOW, _OLD = range(4)


def pairs_within(
    hashes: DataFrame, *, distance: int, old: DataFrame | None = None, chances: int = 1
) -> DataFrame:
    """Pairs of `hashes` (id BIGINT, hash BIGINT) that differ in at most `distance` bits, 0 to 10.

    Columns id, other_id (id < other_id) and distance INT; each pair once. With `old`, hashes that
    were searched before, pairs of a new and an old one are found too, and none of two old ones.

    Ids with the same hash are not all paired with one another, which would be quadratic: each is
    paired with the first `chances` of them (the least ids, old ones before new ones), and those
    alone are paired with the firsts of other hashes. So two ids within the distance are always
    connected, if not always directly. More chances than one make up for pairs that a later check
    of the images takes away. Rows without a hash are left out.

    Raises ValueError for another distance.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance is {distance}, should be 0 to {MAX_DISTANCE} bits")
    firsts = centres(hashes, "hash", old=old, chances=chances).localCheckpoint()
    equal = star(hashes, firsts, "hash").withColumn("distance", F.lit(0))
    if distance == 0:
        return equal
    near = _near_hashes(firsts.select("hash", "is_old"), distance)
    a = firsts.select(F.col("hash").alias("a_hash"), F.explode("centres").alias("a"))
    b = firsts.select(F.col("hash").alias("b_hash"), F.explode("centres").alias("b"))
    across = (
        near.join(a, "a_hash")
        .join(b, "b_hash")
        .select(
            F.least("a", "b").alias("id"),
            F.greatest("a", "b").alias("other_id"),
            F.bit_count(F.col("a_hash").bitwiseXOR(F.col("b_hash"))).alias("distance"),
        )
    )
    return equal.unionByName(across)


def _near_hashes(hashes: DataFrame, distance: int) -> DataFrame:
    """Pairs (a_hash, b_hash) of distinct hashes within the distance, not of two old ones.

    `hashes` has each hash once, with `is_old`.
    """
    counts = hashes.agg(F.count(F.lit(1)), F.count_if("is_old")).head()
    assert counts is not None
    count, olds = counts
    bands = bands_for(count, distance)
    cut_bits = min((count // _PER_PART).bit_length(), min(b.bits for b in bands))
    placed = hashes.select(
        "hash", F.explode(F.flatten(F.array(*_places(bands, cut_bits, olds > 0)))).alias("place")
    ).select(F.col("place.part").alias("part"), F.col("place.role").alias("role"), "hash")
    parts = len(bands) << cut_bits
    search = partial(_search, bands=bands, cut_bits=cut_bits, distance=distance)
    return placed.repartition(parts, "part").mapInArrow(search, "a_hash BIGINT, b_hash BIGINT")


def _places(bands: tuple[Band, ...], cut_bits: int, any_old: bool) -> Iterator[Column]:
    """For each band the parts that a hash lies in, as an array of (part, role)."""
    for n, band in enumerate(bands):
        turned = F.shiftleft("hash", band.start)
        own = F.shiftrightunsigned(turned, BITS - cut_bits) if cut_bits else F.lit(0)
        own = own.cast("int")

        def place(flip: int, own: Column = own, n: int = n) -> Column:
            there = own.bitwiseXOR(F.lit(flip))
            role = F.when(there < own, _NEW_FROM_ABOVE).otherwise(_NEW_FROM_BELOW)
            return F.struct(
                (there + (n << cut_bits)).alias("part"),
                (role if flip else F.lit(_NEW)).cast("tinyint").alias("role"),
            )

        old = F.struct(
            (own + (n << cut_bits)).alias("part"), F.lit(_OLD).cast("tinyint").alias("role")
        )
        flips = Band(0, cut_bits, min(band.radius, cut_bits)).flips()
        new = F.array(*map(place, flips))
        if not any_old:  # nobody there to be asked from below
            new = F.filter(new, lambda p: p["role"] != _NEW_FROM_BELOW)
        yield F.when(F.col("is_old"), F.array(old)).otherwise(new)


def _search(
    batches: Iterable[pa.RecordBatch], bands: tuple[Band, ...], cut_bits: int, distance: int
) -> Iterator[pa.RecordBatch]:
    """Pairs within the parts of one task."""
    rows = list(batches)
    if not rows:
        return
    table = pa.Table.from_batches(rows)
    parts = table["part"].to_numpy()
    roles = table["role"].to_numpy()
    hashes = table["hash"].to_numpy().view(np.uint64)
    for part in np.unique(parts):
        here = parts == part
        n, cut = divmod(int(part), 1 << cut_bits)
        band_bits = bands[n].bits - cut_bits
        lesser = range(cut << band_bits, (cut + 1) << band_bits)
        upper = hashes[here & (roles <= _NEW_FROM_ABOVE)]
        yield _batch(upper, upper, *joined(band_pairs_among(upper, bands, n, distance, lesser)))
        old = hashes[here & (roles == _OLD)]
        if len(old):
            new = hashes[here & (roles != _OLD)]
            yield _batch(new, old, *joined(band_pairs_between(new, old, bands, n, distance)))


def _batch(a: np.ndarray, b: np.ndarray, here: np.ndarray, there: np.ndarray) -> pa.RecordBatch:
    columns = [a[here].view(np.int64), b[there].view(np.int64)]
    return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], ["a_hash", "b_hash"])

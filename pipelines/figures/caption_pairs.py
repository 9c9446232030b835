"""Captions that are nearly the same: by MinHash they meet, by their shingles they are judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.figures.stars import centres, star
from udfs.minhash import BANDS, band_hashes, jaccard, shingles, words

SIMILARITY = 0.7

_FEW = 8
"""Texts of a bucket up to which each is held against each; of more, each against a few."""

_CENTRES = 3


def caption_pairs(
    captions: DataFrame, *, similarity: float = SIMILARITY, old: DataFrame | None = None
) -> DataFrame:
    """Pairs of `captions` (id BIGINT, caption STRING) whose words are nearly the same.

    Columns id, other_id (id < other_id) and similarity FLOAT: of the sets of five words in a row,
    regardless of case and punctuation, at least `similarity`. Captions of fewer words pair where
    they have the same words. With `old`, captions that were compared before, pairs of a new and an
    old one are found too, and none of two old ones.

    Captions with the same words are a star about the least id, old ones first, and each text is
    compared once: so what is written under thousands of figures stays linear. The same holds for
    texts that differ in a number only: a bucket of many is compared with its first three. Texts
    meet with the chance that `udfs.minhash.BANDS` states. Texts are told apart by 64-bit hashes.
    Captions without a word are left out.
    """
    new = _texts(captions)
    known = None if old is None else _texts(old)
    keys = new.select("id", "key").localCheckpoint()  # slim, unlike the texts
    known_keys = None if known is None else known.select("id", "key")
    firsts = centres(keys, "key", old=known_keys, chances=1).localCheckpoint()
    equal = star(keys, firsts, "key").withColumn("similarity", F.lit(1.0).cast("float"))
    everything = new if known is None else new.unionByName(known)
    texts = (
        everything.select("id", "text")
        .join(firsts.select(F.get("centres", F.lit(0)).alias("id"), "is_old"), "id")
        .localCheckpoint()
    )
    met = (
        texts.mapInArrow(_bands, "band BIGINT, id BIGINT, is_old BOOLEAN")
        .repartition("band")
        .mapInArrow(_met, "id BIGINT, other_id BIGINT")
        .distinct()
    )
    one = texts.select("id", F.col("text").alias("one"))
    other = texts.select(F.col("id").alias("other_id"), F.col("text").alias("other"))
    judged = (
        met.join(one, "id")
        .join(other, "other_id")
        .select("id", "other_id", "one", "other")
        .mapInArrow(_similarities, "id BIGINT, other_id BIGINT, similarity FLOAT")
        .where(F.col("similarity") >= F.lit(similarity).cast("float"))
    )
    return equal.unionByName(judged)


def _texts(captions: DataFrame) -> DataFrame:
    """The words of each caption, as `udfs.minhash.words` has them, with a hash of them as `key`."""
    texts = captions.select("id", "caption").mapInArrow(_words, "id BIGINT, text STRING")
    key = F.when(F.col("text").isNotNull(), F.xxhash64("text"))
    return texts.withColumn("key", key)


def _words(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        text = words(batch["caption"])
        yield pa.RecordBatch.from_arrays([batch["id"], text], ["id", "text"])


def _bands(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A row for each band of each text that has shingles."""
    for batch in batches:
        made, counts = shingles(batch["text"])
        bands = band_hashes(made, counts)
        chosen = batch.filter(pa.array(counts > 0))
        of = np.repeat(np.arange(len(bands)), BANDS)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(bands.ravel().view(np.int64)),
                *(chosen[c].take(of) for c in ("id", "is_old")),
            ],
            ["band", "id", "is_old"],
        )


def _met(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Texts with a band in common, not two old ones; all of a band are in one task."""
    rows = list(batches)
    if not rows:
        return
    table = pa.Table.from_batches(rows)
    band, ids = table["band"].to_numpy(), table["id"].to_numpy()
    is_new = ~table["is_old"].to_numpy()
    order = np.lexsort((ids, is_new, band))
    band, ids, is_new = band[order], ids[order], is_new[order]
    starts = np.flatnonzero(np.concatenate([[True], band[1:] != band[:-1]]))
    sizes = np.diff(np.append(starts, len(band)))
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    place = np.arange(len(band))
    for back in range(1, _FEW):  # with each before it, in a bucket of few
        yield _pairs(ids, is_new, place - back, (size <= _FEW) & (place - back >= start))
    for nth in range(_CENTRES):  # with the first ones, in a bucket of many
        yield _pairs(ids, is_new, start + nth, (size > _FEW) & (place > start + nth))


def _pairs(
    ids: np.ndarray, is_new: np.ndarray, with_place: np.ndarray, wanted: np.ndarray
) -> pa.RecordBatch:
    here = np.flatnonzero(wanted)
    there = with_place[here]
    new = is_new[here] | is_new[there]
    a, b = ids[here[new]], ids[there[new]]
    columns = [pa.array(np.minimum(a, b)), pa.array(np.maximum(a, b))]
    return pa.RecordBatch.from_arrays(columns, ["id", "other_id"])


def _similarities(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        similarity = pa.array(jaccard(batch["one"], batch["other"]), pa.float32())
        yield pa.RecordBatch.from_arrays(
            [batch["id"], batch["other_id"], similarity], ["id", "other_id", "similarity"]
        )

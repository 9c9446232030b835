"""Groups that must stay in one split, and the split of each, which no later data changes.

A group is what hangs together by copies (pairs of examples), by the delivered bytes, the figure,
the article, and the patient within a source. Its split follows from a hash of its oldest member,
by when it was delivered and then by id; a group with members that have a split takes theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.figures.components import components
from schemas.figures import SPLITS
from udfs.admission import admitted

ColumnOrName = Column | str

FOLDS = 5
SHARES = (0.8, 0.1, 0.1)
"""Of the groups that go to train, validation and test."""

BRIDGES = "bridges_splits"
_UNKNOWN = ("", "-", "N/A", "NA", "NAN", "NONE", "NULL", "UNKNOWN")
"""What lists have in place of an article or a patient: no reason to tie those that have it."""


def assign_splits(
    examples: DataFrame,
    edges: DataFrame,
    earlier: DataFrame | None = None,
    *,
    shares: Sequence[float] = SHARES,
) -> DataFrame:
    """The group, split and fold of every example.

    `examples`: example_id, figure_id, revision, source, sha256, article_id, patient_id and
    delivered_at, one row each. `edges`: example_id and other_id, pairs of copies of any kind; those
    of examples that are not there are ignored. `earlier`: example_id, revision and split, as this
    function gave them before; what was delivered anew since, with another revision, counts as new.

    Columns: example_id, group_id (the oldest of the group), split, fold (0 to 4), and reasons.
    Examples that had a split keep it. A new example that ties groups of different splits has NULL
    for split and fold, and the reason "bridges_splits"; it is a group of its own and ties nobody.
    Where two or more new examples make such a bridge together, the youngest has to go. A group
    that grows together with an older one of its split takes over that one's id and fold.

    Raises UsageError for shares that are not shares.
    """
    split_of("group_id", shares)  # refuses shares that are none before anything is read
    keys = _keys(examples)
    ties = _within(examples, edges)
    pairs = ties.unionByName(_ties_by_key(keys)).localCheckpoint()
    tied = components(pairs).withColumnRenamed("id", "example_id")
    had = (
        examples.select("example_id", F.lit(None).cast("string").alias("split")).limit(0)
        if earlier is None
        else examples.select("example_id", "revision")
        .join(earlier.select("example_id", "revision", "split"), ["example_id", "revision"])
        .select("example_id", "split")
    )
    members = (
        examples.select("example_id", "delivered_at")
        .join(tied, "example_id", "left")
        .join(had, "example_id", "left")
        .select(
            "example_id",
            "delivered_at",
            F.coalesce("component", "example_id").alias("component"),
            "split",
        )
    )
    if earlier is None:
        settled = members.withColumns({"bridges": F.lit(False), "part": F.lit(None).cast("bigint")})
    else:
        settled = _settled(members.localCheckpoint(), ties, keys)
    return _with_splits(settled, shares)


def split_of(group_id: ColumnOrName, shares: Sequence[float]) -> Column:
    """The split that the hash of a group's id gives, in the given shares of SPLITS.

    Raises UsageError for shares that are not shares.
    """
    ends = np.cumsum(shares).tolist()
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(ends[-1] - 1) > 1e-9:
        raise UsageError(
            f"shares are {', '.join(map(str, shares))}: should be one each for "
            f"{', '.join(SPLITS)}, and add up to 1"
        )
    # 53 bits of the hash, as a fraction below 1.
    fraction = F.shiftrightunsigned(F.xxhash64(F.lit("split"), group_id), 11) * F.lit(2.0**-53)
    train, validation, test = SPLITS
    return F.when(fraction < ends[0], train).when(fraction < ends[1], validation).otherwise(test)


def fold_of(group_id: ColumnOrName) -> Column:
    """The fold that the hash of a group's id gives, 0 to 4, whatever its split."""
    return F.pmod(F.xxhash64(F.lit("fold"), group_id), F.lit(FOLDS)).cast("int")


def _keys(examples: DataFrame) -> DataFrame:
    """What an example shares with others, as a hash: example_id, key; a row for each key."""

    def key(kind: str, *columns: str) -> Column:
        known = (~F.upper(F.trim(F.col(c).cast("string"))).isin(*_UNKNOWN) for c in columns)
        return F.when(reduce(lambda a, b: a & b, known), F.xxhash64(F.lit(kind), *columns))

    keys = F.array_compact(
        F.array(
            key("bytes", "sha256"),
            key("figure", "figure_id"),
            key("article", "article_id"),
            key("patient", "source", "patient_id"),
        )
    )
    return examples.select("example_id", F.explode(keys).alias("key"))


def _ties_by_key(keys: DataFrame) -> DataFrame:
    """Those that share a key, each tied to the least of them."""
    least = F.min("example_id").over(Window.partitionBy("key"))
    return keys.withColumn("other_id", least).where("example_id <> other_id").drop("key").distinct()


def _within(examples: DataFrame, edges: DataFrame) -> DataFrame:
    ids = examples.select("example_id")
    return (
        edges.select("example_id", "other_id")
        .join(ids, "example_id", "left_semi")
        .join(ids.withColumnRenamed("example_id", "other_id"), "other_id", "left_semi")
        .select("example_id", "other_id")
        .distinct()
    )


def _settled(members: DataFrame, ties: DataFrame, keys: DataFrame) -> DataFrame:
    """Members with `bridges`, and with `part` where a component of several splits fell apart."""
    torn = (
        members.groupBy("component")
        .agg(F.countDistinct("split").alias("splits"))
        .where("splits > 1")
        .select("component")
        .localCheckpoint()
    )
    inside = members.join(F.broadcast(torn), "component")
    of = inside.select("example_id", F.col("component").alias("of_component"))
    links = (
        ties.withColumn("is_key", F.lit(False))
        .unionByName(
            keys.select("example_id", F.col("key").alias("other_id"), F.lit(True).alias("is_key"))
        )
        .join(of, "example_id")
    )
    parts = (
        inside.groupBy("component")
        .cogroup(links.groupBy("of_component"))
        .applyInArrow(_parts, "example_id BIGINT, part BIGINT, bridges BOOLEAN")
    )
    return members.join(parts, "example_id", "left").withColumn(
        "bridges", F.coalesce("bridges", F.lit(False))
    )


def _parts(members: pa.Table, links: pa.Table) -> pa.Table:
    """One component of several splits: for each member the oldest that it still hangs together
    with, and whether it is turned away.
    """
    members = members.sort_by([("delivered_at", "ascending"), ("example_id", "ascending")])
    ids = members["example_id"].to_numpy()
    by_id = np.argsort(ids)

    def place(of: np.ndarray) -> np.ndarray:
        return by_id[np.searchsorted(ids, of, sorter=by_id)]

    one, other = links["example_id"].to_numpy(), links["other_id"].to_numpy()
    is_key = links["is_key"].to_numpy()
    _, key_number = np.unique(other, return_inverse=True)
    there = len(ids) + key_number
    there[~is_key] = place(other[~is_key])
    ties = zip(place(one).tolist(), there.tolist(), strict=True)
    least = admitted(members["split"].to_pylist(), ties, len(ids))
    part = [ids[i] if of is None else ids[of] for i, of in enumerate(least)]
    columns = [ids, np.array(part, np.int64), np.array([of is None for of in least])]
    return pa.table(columns, names=["example_id", "part", "bridges"])


def _with_splits(settled: DataFrame, shares: Sequence[float]) -> DataFrame:
    together = Window.partitionBy("component", "part")
    oldest = F.min(F.struct("delivered_at", "example_id")).over(together)["example_id"]
    theirs = F.max("split").over(together)
    return settled.withColumns({"group_id": oldest, "theirs": theirs}).select(
        "example_id",
        "group_id",
        F.when(
            ~F.col("bridges"), F.coalesce("split", "theirs", split_of("group_id", shares))
        ).alias("split"),
        F.when(~F.col("bridges"), fold_of("group_id")).alias("fold"),
        F.when(F.col("bridges"), F.array(F.lit(BRIDGES)))
        .otherwise(F.array().cast("array<string>"))
        .alias("reasons"),
    )

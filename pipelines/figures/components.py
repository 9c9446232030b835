"""Connected components: which ids hang together by pairs, however long the way."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from udfs.union import least_connected

MAX_DRIVER_EDGES = 5_000_000
"""Edges up to which the driver does it alone, in seconds and less than 1 GB."""


def components(edges: DataFrame, *, max_driver_edges: int = MAX_DRIVER_EDGES) -> DataFrame:
    """The component of every id in `edges`, a DataFrame of two BIGINT columns, in any order.

    Columns id and component, the least id that is connected with it. Ids that no edge names are
    not in it. Edges may repeat, go both ways, and tie an id to itself. The edges are read at once
    and more than once: give a table or a checkpoint.
    """
    a, b = (F.col(name) for name in edges.columns)
    edges = edges.select(a.alias("a"), b.alias("b"))
    if edges.limit(max_driver_edges + 1).count() > max_driver_edges:
        return _by_stars(edges)
    table = edges.toArrow()
    ids, component = least_connected(table["a"].to_numpy(), table["b"].to_numpy())
    arrays = [pa.array(ids), pa.array(component)]
    found = pa.table(arrays, names=["id", "component"])
    return edges.sparkSession.createDataFrame(found, "id BIGINT, component BIGINT")


def _by_stars(edges: DataFrame) -> DataFrame:
    """Components by alternating large stars and small stars, until nothing changes.

    Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, "Connected components in MapReduce and
    beyond", 2014. Each step ties neighbours to the least of them, which keeps what is connected
    connected, never makes more edges than there were, and ends with every id tied to the least of
    its component. Chains halve with each round; a star is done after one, and its centre is no
    burden to one task, because the least neighbour is found before the shuffle.
    """
    selfs = edges.select(F.explode(F.array("a", "b")).alias("id")).distinct()
    now = _checkpointed(
        edges.where("a <> b").select(F.greatest("a", "b").alias("u"), F.least("a", "b").alias("v"))
    )
    before = None
    while (state := _state(now)) != before:
        before = state
        now = _checkpointed(_small_star(_large_star(now)))
    tied = now.select(F.col("u").alias("id"), F.col("v").alias("component"))
    return selfs.join(tied, "id", "left").select(
        "id", F.coalesce("component", "id").alias("component")
    )


def _large_star(edges: DataFrame) -> DataFrame:
    """Each id's larger neighbours tied to the least of the id and its neighbours."""
    both = edges.unionByName(edges.select(F.col("v").alias("u"), F.col("u").alias("v")))
    least = both.groupBy("u").agg(F.least(F.min("v"), F.col("u")).alias("least"))
    larger = edges.select(F.col("v").alias("u"), F.col("u").alias("v"))  # v > u
    return larger.join(least, "u").select(F.col("v").alias("u"), F.col("least").alias("v"))


def _small_star(edges: DataFrame) -> DataFrame:
    """Each id and its lesser neighbours tied to the least of them."""
    least = edges.groupBy("u").agg(F.min("v").alias("least"))
    among = edges.join(least, "u").where("v <> least")
    return least.select("u", F.col("least").alias("v")).unionByName(
        among.select(F.col("v").alias("u"), F.col("least").alias("v"))
    )


def _checkpointed(edges: DataFrame) -> DataFrame:
    """Without what it came from: a plan that grows with each round would outgrow the planner."""
    return edges.distinct().localCheckpoint()


def _state(edges: DataFrame) -> tuple[int, int | None]:
    """Differs where the edges differ, as far as 64 bits can say."""
    row = edges.agg(F.count(F.lit(1)), F.bit_xor(F.xxhash64("u", "v"))).head()
    assert row is not None
    return row[0], row[1]

"""Connected components, on the driver and by stars, against a plain union-find."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipelines.figures.components import components
from schemas.frames import frame_of
from udfs.union import least_connected

pytestmark = pytest.mark.slow

EDGES = "a BIGINT, b BIGINT"
Edges = list[tuple[int, int]]


def plain(edges: Edges) -> dict[int, int]:
    """Component by id, by following parents one by one."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while parent.setdefault(i, i) != i:
            i = parent[i]
        return i

    for a, b in edges:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return {i: root(i) for i in list(parent)}


def found(spark: SparkSession, edges: Edges, max_driver_edges: int = 0) -> dict[int, int]:
    rows = components(frame_of(spark, edges, EDGES), max_driver_edges=max_driver_edges).collect()
    by_id = {row["id"]: row["component"] for row in rows}
    assert len(by_id) == len(rows), "an id came twice"
    return by_id


HAND_MADE: dict[str, tuple[Edges, dict[int, int]]] = {
    "a triangle and a pair": (
        [(3, 2), (2, 7), (7, 3), (-5, 9)],
        {2: 2, 3: 2, 7: 2, -5: -5, 9: -5},
    ),
    "edges twice and both ways": ([(1, 2), (2, 1), (1, 2)], {1: 1, 2: 1}),
    "an id with itself": ([(4, 4), (5, 6)], {4: 4, 5: 5, 6: 5}),
    # The greatest id is the centre: each leaf is less than all its neighbours.
    "a star from above": ([(100, i) for i in range(30)], dict.fromkeys([*range(30), 100], 0)),
    "the ends of BIGINT": (
        [(-(2**63), 2**63 - 1), (0, 2**63 - 1)],
        {-(2**63): -(2**63), 0: -(2**63), 2**63 - 1: -(2**63)},
    ),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_graphs(spark: SparkSession, name: str) -> None:
    edges, expected = HAND_MADE[name]
    assert found(spark, edges, max_driver_edges=1000) == expected
    assert found(spark, edges) == expected


def test_no_edges_no_components(spark: SparkSession) -> None:
    assert found(spark, []) == {}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_numpy_agrees_with_following_parents(edges: Edges) -> None:
    a, b = (np.array([e[i] for e in edges], np.int64) for i in (0, 1))
    ids, component = least_connected(a, b)
    assert dict(zip(ids.tolist(), component.tolist(), strict=True)) == plain(edges)


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=50, max_size=250))
def test_stars_agree_with_following_parents(spark: SparkSession, edges: Edges) -> None:
    assert found(spark, edges) == plain(edges)


def chain(length: int) -> Edges:
    """One chain through all numbers in a random order."""
    order = list(range(length))
    random.Random(7).shuffle(order)
    return list(pairwise(order))


def test_a_long_chain_on_the_driver(spark: SparkSession) -> None:
    assert set(found(spark, chain(10_000), max_driver_edges=10_000).values()) == {0}


@pytest.mark.slow
def test_a_long_chain_by_stars(spark: SparkSession) -> None:
    by_id = found(spark, chain(10_000))
    assert len(by_id) == 10_000
    assert set(by_id.values()) == {0}

"""Splits that nothing crosses and that stay as data is added."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from pipelines.errors import UsageError
from pipelines.figures.groups import EXAMPLE
from pipelines.figures.splits import SHARES, assign_splits
from schemas.frames import frame_of

pytestmark = pytest.mark.slow

EDGES = "example_id BIGINT, other_id BIGINT"
NAMES = [field.split()[0] for field in EXAMPLE.split(", ")]
START = datetime(2026, 1, 1, tzinfo=UTC)


def example(example_id: int, day: int = 0, **fields: Any) -> tuple[Any, ...]:
    """A figure of its own, with nothing that another has, but for `fields`."""
    row: dict[str, Any] = {
        **dict.fromkeys(NAMES),
        "example_id": example_id,
        "figure_id": example_id,
        "part": 0,
        "revision": 1,
        "source": "corpus",
        "format": "pmc-oa",
        "sha256": f"{example_id:064x}",
        "delivered_at": START + timedelta(days=day),
        "source_width": 100,
        "source_height": 100,
        **fields,
    }
    return tuple(row[name] for name in NAMES)


def splits_of(
    spark: SparkSession,
    rows: list[tuple[Any, ...]],
    edges: list[tuple[int, int]],
    earlier: DataFrame | None = None,
    shares: Sequence[float] = SHARES,
) -> dict[int, Any]:
    frame = frame_of(spark, rows, EXAMPLE)
    found = assign_splits(frame, frame_of(spark, edges, EDGES), earlier, shares=shares).collect()
    assert len(found) == len(rows)
    return {row["example_id"]: row for row in found}


def as_earlier(spark: SparkSession, found: dict[int, Any]) -> DataFrame:
    rows = [(i, 1, row["split"]) for i, row in found.items()]
    return frame_of(spark, rows, "example_id BIGINT, revision BIGINT, split STRING")


def test_what_ties_examples(spark: SparkSession) -> None:
    rows = [
        example(1, article_id="PMC1"),
        example(2, article_id="PMC1", source="another"),  # articles are the same everywhere
        example(3, patient_id="7"),
        example(4, patient_id="7"),
        example(5, patient_id="7", source="another"),  # patients are not
        example(6, figure_id=60, part=1),
        example(7, figure_id=60, part=2),
        example(8, sha256="same"),
        example(9, sha256="same"),
        example(10, article_id=" "),  # blank is unknown
        example(11, article_id=" "),
        example(12),
        example(13),
        example(14, patient_id="Unknown", article_id="NaN"),  # nor is this anybody
        example(15, patient_id="Unknown", article_id="NaN"),
    ]
    found = splits_of(spark, rows, [(12, 13), (3, 999)])
    groups = {i: row["group_id"] for i, row in found.items()}
    assert groups == {
        **{1: 1, 2: 1, 3: 3, 4: 3, 5: 5, 6: 6, 7: 6, 8: 8, 9: 8, 10: 10, 11: 11},
        **{12: 12, 13: 12, 14: 14, 15: 15},
    }
    for row in found.values():
        assert row["split"] == found[row["group_id"]]["split"]
        assert row["fold"] == found[row["group_id"]]["fold"]
        assert row["reasons"] == []


def test_the_oldest_names_the_group(spark: SparkSession) -> None:
    found = splits_of(
        spark, [example(1, day=2), example(2, day=1), example(3, day=1)], [(1, 2), (1, 3)]
    )
    assert {row["group_id"] for row in found.values()} == {2}


def test_a_bridge_between_splits_is_turned_away(spark: SparkSession) -> None:
    old = [example(i) for i in range(40)]
    first = splits_of(spark, old, [])
    train = next(i for i, row in first.items() if row["split"] == "train")
    test = next(i for i, row in first.items() if row["split"] == "test")
    new = [
        example(100, day=1, article_id="A"),  # ties both
        example(101, day=1, article_id="A"),  # hangs on the bridge only, by its article ...
        example(102, day=1, article_id="A"),  # ... and these two on one another
        example(103, day=1),  # a copy of the one in test
    ]
    edges = [(train, 100), (test, 100), (test, 103)]
    found = splits_of(spark, old + new, edges, as_earlier(spark, first))
    assert {i: found[i]["split"] for i in first} == {i: r["split"] for i, r in first.items()}
    bridge = found[100]
    assert (bridge["split"], bridge["fold"]) == (None, None)
    assert bridge["reasons"] == ["bridges_splits"]
    assert (bridge["group_id"], found[101]["group_id"], found[102]["group_id"]) == (100, 101, 101)
    assert found[103]["split"] == "test"
    assert found[103]["group_id"] == test
    # The next run says the same of all, the bridge included.
    again = splits_of(spark, old + new, edges, as_earlier(spark, found))
    assert again == found


def test_what_was_delivered_anew_counts_as_new(spark: SparkSession) -> None:
    old = [example(i) for i in range(40)]
    first = splits_of(spark, old, [])
    train = next(i for i, row in first.items() if row["split"] == "train")
    test = next(i for i, row in first.items() if row["split"] == "test")
    changed = [row if row[0] != train else example(train, revision=2) for row in old]
    found = splits_of(spark, changed, [(train, test)], as_earlier(spark, first))
    assert found[train]["split"] == "test"  # its new picture is a copy of one in test


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_adding_data_in_any_order_changes_no_split(spark: SparkSession, seed: int) -> None:
    rng = random.Random(seed)
    ids = list(range(300))
    rows = {
        i: example(
            i,
            day=rng.randrange(3),
            article_id=rng.choice([None, str(rng.randrange(150))]),
            patient_id=rng.choice([None, None, str(rng.randrange(100))]),
            source=rng.choice("ab"),
        )
        for i in ids
    }
    pairs = [sorted(rng.sample(ids, 2)) for _ in range(60)]
    edges = [(a, b) for a, b in pairs]
    rng.shuffle(ids)
    known: dict[int, Any] = {}
    for size in (120, 200, 300):
        there = set(ids[:size])
        found = splits_of(
            spark,
            [rows[i] for i in there],
            edges,  # those of examples to come are ignored
            as_earlier(spark, known) if known else None,
        )
        for i, row in known.items():
            assert row["split"] is None or found[i]["split"] == row["split"]
        used = {i: row["split"] for i, row in found.items() if row["split"]}
        assert all(used[a] == used[b] for a, b in edges if a in used and b in used)
        for columns in (("article_id",), ("source", "patient_id")):
            shared = defaultdict(set)
            for i, split in used.items():
                key = tuple(rows[i][NAMES.index(c)] for c in columns)
                if None not in key:
                    shared[key].add(split)
            assert all(len(splits) == 1 for splits in shared.values())
        by_group = defaultdict(set)
        for i in used:
            by_group[found[i]["group_id"]].add((found[i]["split"], found[i]["fold"]))
        assert all(len(splits) == 1 for splits in by_group.values())
        known = found
    assert any(row["split"] is None for row in known.values()), "no bridge: the test tests little"


def test_shares_come_out_as_asked(spark: SparkSession) -> None:
    rows = [example(i) for i in range(6000)]
    found = splits_of(spark, rows, [], shares=(0.6, 0.1, 0.3))
    splits = Counter(row["split"] for row in found.values())
    assert abs(splits["train"] / 6000 - 0.6) < 0.03
    assert abs(splits["validation"] / 6000 - 0.1) < 0.02
    assert abs(splits["test"] / 6000 - 0.3) < 0.03
    folds = Counter((row["split"] == "test", row["fold"]) for row in found.values())
    assert all(abs(folds[True, f] / splits["test"] - 0.2) < 0.05 for f in range(5))


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.9, 0.2, 0.1), (1.1, 0.0, -0.1)])
def test_shares_that_are_none_are_refused(spark: SparkSession, shares: Sequence[float]) -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        splits_of(spark, [example(1)], [], shares=shares)

"""Tables that are brought up to date by what differs."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.lake import Lake
from jobs.sync import sync
from schemas.frames import frame_of
from schemas.table import BIGINT, STRING, Column, Table

TABLE = Table(
    "silver.letters",
    "for tests",
    (
        Column("id", BIGINT, "key", nullable=False),
        Column("part", BIGINT, "key", nullable=False),
        Column("letter", STRING, "compared"),
        Column("bytes", STRING, "not compared"),
    ),
    key=("id", "part"),
)


def rows(spark: SparkSession, *letters: tuple[int, int, str | None]) -> DataFrame:
    return frame_of(spark, letters, "id BIGINT, part BIGINT, letter STRING")


def bring(lake: Lake, want: DataFrame) -> tuple[int, int]:
    whole = want.selectExpr("*", "concat('bytes of ', letter) AS bytes")
    return sync(lake, TABLE, want, lambda keys: whole.join(keys, ["id", "part"], "left_semi"))


def held(lake: Lake) -> list[tuple[int, int, str | None, str | None]]:
    return sorted(tuple(r) for r in lake.read(TABLE).collect())


def test_only_what_differs_is_written(lake: Lake, spark: SparkSession) -> None:
    first = rows(spark, (1, 0, "a"), (1, 1, "b"), (2, 0, "c"))
    assert bring(lake, first) == (0, 3)
    version = lake.version(TABLE)
    assert bring(lake, first) == (0, 0)
    assert lake.version(TABLE) == version

    # one goes, one changes, one comes, one stays
    assert bring(lake, rows(spark, (1, 0, "a"), (2, 0, "d"), (3, 0, "e"))) == (2, 2)
    assert held(lake) == [
        (1, 0, "a", "bytes of a"),
        (2, 0, "d", "bytes of d"),
        (3, 0, "e", "bytes of e"),
    ]


@pytest.mark.slow
def test_null_is_a_value_like_any_other(lake: Lake, spark: SparkSession) -> None:
    assert bring(lake, rows(spark, (1, 0, None), (2, 0, "a"))) == (0, 2)
    assert bring(lake, rows(spark, (1, 0, None), (2, 0, "a"))) == (0, 0)
    assert bring(lake, rows(spark, (1, 0, "x"), (2, 0, None))) == (2, 2)
    assert held(lake) == [(1, 0, "x", "bytes of x"), (2, 0, None, None)]


@pytest.mark.slow
def test_cut_off_between_its_commits_the_next_run_completes_it(
    lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(lake, rows(spark, (1, 0, "a"), (2, 0, "b")))

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    changed = rows(spark, (1, 0, "a"), (2, 0, "c"))
    with monkeypatch.context() as patched:
        patched.setattr(Lake, "append", cut_off)
        with pytest.raises(KeyboardInterrupt):
            bring(lake, changed)
    assert bring(lake, changed) == (0, 1)
    assert [r[2] for r in held(lake)] == ["a", "c"]

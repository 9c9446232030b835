"""Lines of CSV and rows of Parquet as text by header, numbered."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from pipelines.trips.layouts import builtin_layouts
from pipelines.trips.rows import WHOLE_LINE, read_rows
from pipelines.trips.sources import inspect

NAMES = (
    "pickup_datetime",
    "dropoff_datetime",
    "pickup_longitude",
    "pickup_latitude",
    "dropoff_longitude",
    "dropoff_latitude",
)
HEADER = ",".join((*NAMES, "note"))


def rows(spark: SparkSession, path: Path) -> list[dict[str, str | None]]:
    """`fields` in the order of `source_row`, which must be 0, 1, 2 and so on."""
    file = inspect(spark, f"file:{path}", builtin_layouts())
    found = sorted(read_rows(spark, file, 2).collect(), key=lambda r: r["source_row"])
    assert [r["source_row"] for r in found] == list(range(len(found)))
    return [r["fields"] for r in found]


def notes(spark: SparkSession, path: Path, lines: str) -> list[str | None]:
    """The seventh field of rows whose first six are 1 to 6."""
    path.write_bytes(lines.encode())
    return [r["note"] for r in rows(spark, path)]


def test_text_by_header(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n1,2, 3,,5,6,é 東京\n7\n")
    first, second = rows(spark, path)
    assert first == dict(
        zip((*NAMES, "note"), ("1", "2", " 3", None, "5", "6", "é 東京"), strict=True)
    )
    assert second == dict.fromkeys((*NAMES, "note")) | {"pickup_datetime": "7"}


def test_quotes(spark: SparkSession, tmp_path: Path) -> None:
    cases = [
        ('"a, b"', "a, b"),
        ('"he said ""hi"""', 'he said "hi"'),
        ('""', None),
        ('"a"b"c"', 'a"b"c'),
        ('"a"b', '"a"b'),
        ("x" * 100_000, "x" * 100_000),
        ('"' + '""' * 20_000 + '"', '"' * 20_000),
    ]
    still_open = ['"', '"a', 'a"', '"a"""b,c']
    lines = [f"1,2,3,4,5,6,{field}" for field in (*(f for f, _ in cases), *still_open)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join((HEADER, *lines)))
    found = rows(spark, path)
    for (field, expected), row in zip(cases, found, strict=False):
        assert (field[:50], row["note"]) == (field[:50], expected)
        assert WHOLE_LINE not in row
    assert [row[WHOLE_LINE] for row in found[len(cases) :]] == lines[len(cases) :]


def test_more_text_than_columns_keeps_the_line(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n1,2,3,4,5,6,a,,\n1,2,3,4,5,6,a, ,b\n1,2,3,4,5,6,a{',' * 50}\n")
    first, second, third = rows(spark, path)
    assert WHOLE_LINE not in first
    assert second[WHOLE_LINE] == "1,2,3,4,5,6,a, ,b"
    assert WHOLE_LINE not in third


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_and_blank_lines(spark: SparkSession, tmp_path: Path, end: str) -> None:
    lines = ["\ufeff" + HEADER, " ", "1,2,3,4,5,6,a", "", "\t", "1,2,3,4,5,6,b"]
    assert notes(spark, tmp_path / "x.csv", end.join(lines)) == ["a", "b"]
    assert notes(spark, tmp_path / "x.csv", end + HEADER + end) == []


def test_quoted_line_break_is_two_broken_rows(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'{HEADER}\n1,2,3,4,5,6,"a\nb"\n1,2,3,4,5,6,c\n')
    first, second, third = rows(spark, path)
    assert first[WHOLE_LINE] == '1,2,3,4,5,6,"a'
    assert second[WHOLE_LINE] == 'b"'
    assert third["note"] == "c"


def test_columns_called_like_our_own(spark: SparkSession, tmp_path: Path) -> None:
    own = ("value", "found", "source_row", "block", "_line", "fields", "_metadata")
    path = tmp_path / "x.csv"
    path.write_text(f"{','.join((*NAMES, *own))}\n1,2,3,4,5,6,a,b,c,d,e,f,g\n")
    (found,) = rows(spark, path)
    assert [found[name] for name in own] == list("abcdefg")
    pq.write_table(pa.table({n: ["1"] for n in (*NAMES, *own, "a.b`c")}), tmp_path / "x.parquet")
    assert rows(spark, tmp_path / "x.parquet") == [dict.fromkeys((*NAMES, *own, "a.b`c"), "1")]


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("x.csv", bytes),
        pytest.param("x.csv.gz", gzip.compress, marks=pytest.mark.slow),
        pytest.param("x.csv.bz2", bz2.compress, marks=pytest.mark.slow),
    ],
)
def test_numbers_over_many_splits(
    spark: SparkSession, tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    content = (HEADER + "\n" + "".join(f"1,2,3,4,5,6,{i}\n\n" for i in range(40_000))).encode()
    (tmp_path / name).write_bytes(compress(content))
    size = "spark.sql.files.maxPartitionBytes"
    before = spark.conf.get(size)
    spark.conf.set(size, "20000")
    try:
        found = rows(spark, tmp_path / name)
    finally:
        spark.conf.set(size, str(before))
    assert [r["note"] for r in found] == [str(i) for i in range(40_000)]


def test_header_alone_has_no_rows(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(HEADER)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(f"{HEADER}\n".encode()))
    assert rows(spark, tmp_path / "x.csv") == []
    assert rows(spark, tmp_path / "x.csv.gz") == []


def test_parquet_values_as_text(spark: SparkSession, tmp_path: Path) -> None:
    noon = datetime(2015, 12, 1, 12, 0, 0, 250_000)
    columns: dict[str, Any] = {
        "pickup_datetime": pa.array([noon, None], pa.timestamp("us")),  # a wall clock
        "dropoff_datetime": pa.array([noon.replace(tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
        "pickup_longitude": pa.array([-73.972335815429687, float("nan")]),
        "pickup_latitude": pa.array([40.5, 40.5], pa.float32()),
        "dropoff_longitude": pa.array(["-73.9", ""]),
        "dropoff_latitude": pa.array([40, None], pa.int64()),
        "note": pa.array([[1, 2], None], pa.list_(pa.int32())),
        "": pa.array([True, False]),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    first, second = rows(spark, tmp_path / "x.parquet")
    assert first == {
        "pickup_datetime": "2015-12-01 12:00:00.25",
        "dropoff_datetime": "2015-12-01 12:00:00.25Z",
        "pickup_longitude": "-73.97233581542969",  # the shortest text of the same double
        "pickup_latitude": "40.5",
        "dropoff_longitude": "-73.9",
        "dropoff_latitude": "40",
        "note": "[1,2]",
        "(column 7)": "true",
    }
    assert (second["pickup_datetime"], second["pickup_longitude"]) == (None, "NaN")

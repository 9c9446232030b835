"""Delivered files of every shape, good and bad: found, recognised, named by content."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.trips.layouts import builtin_layouts
from pipelines.trips.sources import (
    FileRefused,
    SourceFile,
    content_id,
    find_files,
    has_changed,
    inspect,
)

HEADER = (
    "pickup_datetime,dropoff_datetime,pickup_longitude,pickup_latitude,dropoff_longitude,"
    "dropoff_latitude"
)
ROW = "2015-12-01 08:00:00,2015-12-01 08:10:00,-73.98,40.75,-73.97,40.76"
CSV = f"{HEADER}\n{ROW}\n".encode()


def inspected(spark: SparkSession, path: Path) -> SourceFile:
    return inspect(spark, f"file:{path}", builtin_layouts())


def names(found: list[str]) -> list[str]:
    return [path.rsplit("/", 1)[-1] for path in found]


def test_folder_at_any_depth_without_hidden_and_other_files(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name in (
        "a.csv",
        "deep/b.csv.gz",
        "C.CSV",
        "d.parquet",
        "e.csv.bz2",
        "notes.txt",
        ".f.csv",
        "_tmp/g.csv",
        "h.csv.part",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CSV)
    assert names(find_files(spark, [str(tmp_path)])) == [
        "C.CSV",
        "a.csv",
        "d.parquet",
        "b.csv.gz",
        "e.csv.bz2",
    ]


def test_glob_file_and_folder_give_each_file_once(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("a1.csv", "a2.csv", "b.csv"):
        (tmp_path / name).write_bytes(CSV)
    paths = [str(tmp_path / "a*.csv"), str(tmp_path / "a1.csv"), str(tmp_path)]
    assert names(find_files(spark, paths)) == ["a1.csv", "a2.csv", "b.csv"]
    assert names(find_files(spark, [str(tmp_path / "{a1,b}.csv")])) == ["a1.csv", "b.csv"]


@pytest.mark.parametrize(
    "name",
    ["two words.csv", "a[1].csv", "a,b.csv", "100%25.csv", "für.csv", "{x}.csv"],
)
def test_names_are_taken_as_they_are(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(CSV)
    (found,) = find_files(spark, [str(tmp_path / name)])
    assert found == f"file:{tmp_path / name}"
    assert content_id(spark, inspect(spark, found, builtin_layouts()))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.csv", "no such file or folder, and no file matches it"),
        ("none*.csv", "no such file or folder, and no file matches it"),
        ("empty", "holds no file ending in .csv, .csv.gz"),
        ("s3x://bucket/x.csv", 'No FileSystem for scheme "s3x"'),
        ("hdfs://", "Incomplete HDFS URI, no host"),
        ("a[", "Unclosed character class"),
    ],
)
def test_what_means_no_file_is_a_usage_error(
    spark: SparkSession, tmp_path: Path, path: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    place = path if "://" in path else str(tmp_path / path)
    with pytest.raises(UsageError, match=message) as e:
        find_files(spark, [place])
    assert str(e.value).startswith(place)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", r"is empty \(0 bytes\)"),
        ("x.csv.gz", b"", r"is empty \(0 bytes\)"),
        ("x.csv", b"\n  \n\t\n", "has no header"),
        ("x.csv", b"a,b\n1,2\n", "has no known column for pickup_at, .*--mapping FILE.toml"),
        ("x.csv", gzip.compress(CSV, mtime=0), "gzip but its name does not end in .gz"),
        ("x.csv.gz", CSV, "truncated or corrupt"),
        ("x.csv.gz", b"\x1f\x8b\x08\x00garbage", "truncated or corrupt"),
        ("x.csv", "\ufeff".encode("utf-16-le") + CSV, "is in UTF-16"),
        ("x.parquet", b"PAR1 and nothing more", "not a readable Parquet file"),
        ("x.csv", b"x" * 200_000, r"cannot|has no header that can be read as CSV"),
        ("x.csv", bytes(range(256)) * 40, "no known column|no header"),
        ("_x.csv", CSV, "begins with _ or a dot"),
        (".x.csv", CSV, "begins with _ or a dot"),
    ],
)
def test_refused_with_the_reason(
    spark: SparkSession, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileRefused, match=message) as e:
        inspected(spark, tmp_path / name)
    assert "\n" not in str(e.value)


def test_zip_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.csv", "w") as archive:
        archive.writestr("x.csv", CSV)
    with pytest.raises(FileRefused, match="zip archive: unpack it"):
        inspected(spark, tmp_path / "x.csv")


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b[:-8] + b"\0" * 8])
def test_truncated_or_corrupt_gzip_is_found_before_a_row_is_read(
    spark: SparkSession, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    # Random coordinates, so that half of the archive still holds the header and many rows.
    rows = "\n".join(f"{ROW}{os.urandom(8).hex()}" for _ in range(40_000))
    (tmp_path / "x.csv.gz").write_bytes(spoil(gzip.compress(f"{HEADER}\n{rows}\n".encode())))
    with pytest.raises(FileRefused, match="is truncated or corrupt"):
        content_id(spark, inspected(spark, tmp_path / "x.csv.gz"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(CSV)
    (tmp_path / "x.csv").chmod(0)
    with pytest.raises(FileRefused, match=r"cannot be read: .*Permission denied"):
        inspected(spark, tmp_path / "x.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + CSV,
        b"\n \t\n" + CSV,
        CSV.replace(b"\n", b"\r\n"),
        CSV.replace(b"\n", b"\r"),
        CSV.replace(b"longitude,", b"longitude  ,").replace(b"pickup_d", b" Pickup_D"),
        HEADER.encode() + b",,\n",
        ",".join(f'"{name}"' for name in HEADER.split(",")).encode(),
    ],
    ids=["bom", "blank lines", "crlf", "cr", "spaces and case", "trailing commas", "quotes"],
)
def test_header_however_it_is_written(spark: SparkSession, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    file = inspected(spark, tmp_path / "x.csv")
    assert [name.lower() for name in file.header] == HEADER.split(",")


def test_same_content_has_one_id_whatever_the_name_and_compression(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    (tmp_path / "b.txt").write_bytes(CSV)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(CSV, 1))
    # Two members, as `cat a.gz b.gz` makes them, are one content.
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(CSV[:50]) + gzip.compress(CSV[50:]))
    (tmp_path / "e.csv").write_bytes(CSV + b"\n")
    ids = [content_id(spark, inspected(spark, p)) for p in sorted(tmp_path.iterdir())]
    assert len(set(ids[:4])) == 1
    assert ids[4] != ids[0]
    assert len(ids[0]) == 64


def test_change_is_noticed(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(CSV)
    file = inspected(spark, path)
    assert not has_changed(spark, file)
    path.write_bytes(CSV + CSV)
    assert has_changed(spark, file)
    path.unlink()
    assert has_changed(spark, file)


def test_parquet_with_zone_ids_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"PULocationID": [1], "trip_distance": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(FileRefused, match=r"has zone ids \(PULocationID\), no coordinates"):
        inspected(spark, tmp_path / "x.parquet")

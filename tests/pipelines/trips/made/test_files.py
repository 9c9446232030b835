"""Files of made days: repeatable to the byte, whole or absent, with the dirt that was asked for."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.trips.made import files
from pipelines.trips.made.dirt import DIRT, FLAWS, TYPED_DIRT
from pipelines.trips.made.files import Order, write_day

DAY = date(2015, 12, 1)
ORDER = Order(trips_per_day=2000, seed=3, dirty_share=0.1, commuter_share=0.1, format="csv")


@pytest.mark.parametrize("format_", files.FORMATS)
def test_a_day_is_the_same_file_again(tmp_path: Path, format_: str) -> None:
    order = replace(ORDER, format=format_)
    first, second = (write_day(DAY, order, str(tmp_path / x)) for x in "ab")
    assert Path(first.path).read_bytes() == Path(second.path).read_bytes()
    assert Path(first.path).name == f"made_yellow_2015-12-01.{format_}"


def test_compressed_and_plain_hold_the_same_text(tmp_path: Path) -> None:
    plain = write_day(DAY, ORDER, str(tmp_path))
    packed = write_day(DAY, replace(ORDER, format="csv.gz"), str(tmp_path))
    assert gzip.decompress(Path(packed.path).read_bytes()) == Path(plain.path).read_bytes()


def test_text_holds_every_kind_of_dirt_and_of_flaw(tmp_path: Path) -> None:
    made = write_day(DAY, ORDER, str(tmp_path))
    lines = Path(made.path).read_text(encoding="utf-8").splitlines()
    assert set(made.dirty) == set(DIRT)
    assert all(made.dirty.values())
    assert sum(made.dirty.values()) == 200
    assert set(made.flawed) == set(FLAWS)
    assert lines.count("") == made.flawed["blank_line"] == 20
    assert sum(line.endswith(",,") for line in lines) == made.flawed["trailing_commas"] == 20
    assert len([line for line in lines if line]) == 1 + ORDER.trips_per_day


def test_clean_trips_do_not_depend_on_how_many_are_dirty(tmp_path: Path) -> None:
    clean = write_day(DAY, replace(ORDER, dirty_share=0), str(tmp_path / "clean"))
    dirty = write_day(DAY, ORDER, str(tmp_path / "dirty"))
    a, b = (set(Path(x.path).read_text(encoding="utf-8").splitlines()) for x in (clean, dirty))
    assert sum(clean.dirty.values()) == 0
    assert len(a - b) == 200 + 40  # dirty rows, odd fields and trailing commas


def test_parquet_holds_types_and_the_dirt_that_fits_them(tmp_path: Path) -> None:
    made = write_day(DAY, replace(ORDER, format="parquet"), str(tmp_path))
    table = pq.read_table(made.path)
    assert table.num_rows == ORDER.trips_per_day
    assert set(made.dirty) == set(TYPED_DIRT)
    assert all(made.dirty.values())
    assert table["pickup_latitude"].null_count == made.dirty["missing_pickup_lat"]
    assert str(table.schema.field("tpep_pickup_datetime").type).startswith("timestamp")


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path(write_day(DAY, ORDER, str(tmp_path)).path).read_bytes()

    class DiskFull(OSError):
        pass

    def fail(*_: object) -> None:
        raise DiskFull

    monkeypatch.setattr(files, "_write_csv", fail)
    with pytest.raises(DiskFull):
        write_day(DAY, replace(ORDER, seed=4), str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["made_yellow_2015-12-01.csv"]
    assert (tmp_path / "made_yellow_2015-12-01.csv").read_bytes() == before

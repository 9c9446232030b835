"""The ingestion job in this process: what lands, what is refused, and that nothing moves twice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from jobs.ingest_trips import main
from jobs.ingestion import counts_in_tables
from jobs.lake import Lake
from schemas import DELIVERIES, TRIPS, TRIPS_RAW, TRIPS_REJECTED

TABLES = (TRIPS_RAW, TRIPS_REJECTED, TRIPS, DELIVERIES)
HEADER = (
    "pickup_datetime,dropoff_datetime,pickup_longitude,pickup_latitude,dropoff_longitude,"
    "dropoff_latitude,fare_amount"
)
GOOD = "2015-12-01 08:00:00,2015-12-01 08:10:00,-73.98,40.75,-73.97,40.76,10"
ZERO = "2015-12-01 08:00:00,2015-12-01 08:10:00,0,40.75,-73.97,40.76,10"
NO_FARE = "2015-12-01 08:00:00,2015-12-01 08:10:00,-73.98,40.75,-73.97,40.76,ten"
BROKEN = '2015-12-01 08:00:00,2015-12-01 08:10:00,-73.98,40.75,-73.97,40.76,"10'


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    return path


def versions(lake: Lake) -> list[int | None]:
    return [lake.version(t) for t in TABLES]


class Job:
    """Runs of the job on one lake; `line` is the JSON of the last one."""

    def __init__(self, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
        self.lake, self.capsys = lake, capsys
        self.line: dict[str, Any] = {}
        self.out = self.err = ""

    def __call__(self, *arguments: str | Path) -> int:
        code = main([*map(str, arguments), "--lake", self.lake.root])
        self.out, self.err = self.capsys.readouterr()
        self.line = json.loads(self.out.splitlines()[-1])
        return code


@pytest.fixture
def job(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return Job(lake, capsys)


@pytest.mark.slow
def test_rows_land_and_the_same_content_again_changes_nothing(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "delivered"
    folder.mkdir()
    file = write(folder / "a.csv", GOOD, ZERO, NO_FARE, BROKEN)
    assert job(file) == 0
    assert job.line["rows"] == {"read": 4, "accepted": 2, "rejected": 2}
    assert job.line["rejected_by_reason"] == {"zero_pickup": 1, "unclosed_quote": 1}
    assert job.line["unparsable_optional"] == {"fare_usd": 1}
    assert "4 =            2 +            2" in job.out
    (delivery,) = job.lake.read(DELIVERIES).collect()
    assert (delivery["rows_read"], delivery["rows_accepted"]) == (4, 2)
    assert delivery["paths"] == [f"file:{file}"]
    assert counts_in_tables(job.lake, [delivery["file_id"]]) == {delivery["file_id"]: (4, 2, 2)}
    rejected = job.lake.read(TRIPS_REJECTED).orderBy("source_row").collect()
    assert [(r["source_row"], r["reasons"]) for r in rejected] == [
        (1, ["zero_pickup"]),
        (3, ["unclosed_quote"]),
    ]
    assert rejected[0]["fields"]["pickup_longitude"] == "0"
    trips = job.lake.read(TRIPS)
    assert trips.where(F.col("trip_id") != F.xxhash64("file_id", "source_row")).isEmpty()

    before = versions(job.lake)
    assert job(file) == 0
    assert versions(job.lake) == before
    assert (job.line["files_ingested"], job.line["files_unchanged"]) == (0, 1)

    # Under another name and compressed it is the same file: the delivery learns the path.
    (folder / "b.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert job(folder) == 0
    assert versions(job.lake)[:3] == before[:3]
    (delivery,) = job.lake.read(DELIVERIES).collect()
    assert delivery["paths"] == [f"file:{file}", f"file:{folder / 'b.csv.gz'}"]
    # Other rules leave it as it is, unless it is asked for again.
    assert job(file, "--max-duration", "5m") == 0
    assert "was ingested under other rules" in job.err
    assert job(file, "--max-duration", "5m", "--again") == 0
    assert job.line["rejected_by_reason"] == {"too_long": 4, "zero_pickup": 1, "unclosed_quote": 1}
    assert job.lake.read(TRIPS).isEmpty()
    assert job.lake.read(TRIPS_RAW).count() == 4


@pytest.mark.slow
def test_rows_lost_by_hand_come_back(job: Job, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", GOOD, GOOD)
    assert job(file) == 0
    # Two identical rows are two trips.
    assert job.lake.read(TRIPS).select("trip_id").distinct().count() == 2
    job.lake.replace(TRIPS, job.lake.read(TRIPS).limit(0), "source_row = 1")
    assert job(file) == 0
    assert "does not have the rows it should have" in job.err
    assert job.lake.read(TRIPS).count() == 2


def test_one_refused_file_means_that_nothing_is_written(job: Job, tmp_path: Path) -> None:
    good = write(tmp_path / "good.csv", GOOD)
    zones = tmp_path / "zones.csv"
    zones.write_text("tpep_pickup_datetime,tpep_dropoff_datetime,PULocationID,DOLocationID\n")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(good.read_bytes())[:-10])
    assert job(good, zones, cut) == 3
    assert job.line["outcome"] == "refused"
    assert (
        f"file:{zones} has zone ids (PULocationID), no coordinates: TLC's files after 2016-06 and "
        "its Parquet re-issues of earlier years cannot be used; use the original CSV"
    ) in job.line["error"]
    assert f"file:{cut} is truncated or corrupt" in job.line["error"]
    assert "Traceback" not in job.err
    assert versions(job.lake) == [None] * 4


@pytest.mark.slow
def test_header_alone_is_a_delivery_without_rows(job: Job, tmp_path: Path) -> None:
    assert job(write(tmp_path / "a.csv")) == 0
    assert job.line["rows"] == {"read": 0, "accepted": 0, "rejected": 0}
    before = versions(job.lake)
    assert job(tmp_path / "a.csv") == 0
    assert versions(job.lake) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "none.csv: no such file or folder"),
        (["a.csv", "--timezone", "New York"], "no time zone 'New York'"),
        (["a.csv", "--mapping", "none.toml"], "--mapping none.toml: cannot be read"),
        (["a.csv", "--box", "1,2,3"], "'1,2,3' is no box: write MIN_LAT"),
        (["a.csv", "--max-duration", "long"], "'long' is no length of time: write 8h"),
        (["a.csv", "--max-duration", "9" * 40 + "d"], "is no length of time"),
        (["a.csv", "--no-such-thing"], "unrecognized arguments: --no-such-thing"),
        ([], "the following arguments are required: FILE"),
    ],
)
def test_usage_errors(
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    write(tmp_path / "a.csv", GOOD)
    monkeypatch.chdir(tmp_path)
    assert job(*arguments) == 2
    assert job.line["outcome"] == "usage"
    assert message in job.line["error"]
    assert message in job.err
    assert "Traceback" not in job.err
    assert not job.lake.exists(TRIPS)


@pytest.mark.slow
def test_file_that_changes_while_it_is_read(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.csv", GOOD)

    def append_then_write(lake: Lake, table: Any, rows: Any, *, real: Any = Lake.append) -> None:
        if table is TRIPS_RAW:
            write(file, GOOD, GOOD)
        real(lake, table, rows)

    monkeypatch.setattr(Lake, "append", append_then_write)
    assert job(file) == 3
    assert "changed while it was read: run again" in job.line["error"]
    assert job.lake.read(TRIPS_RAW).isEmpty()
    monkeypatch.undo()
    assert job(file) == 0
    assert job.line["rows"]["accepted"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("table", [TRIPS_RAW, TRIPS_REJECTED, TRIPS], ids=lambda t: t.name)
def test_a_rival_appends_the_same_rows_just_before(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    # Two runs of one file decide to append before either has: the moment that cannot be hit by
    # chance in a test.
    file = write(tmp_path / "a.csv", GOOD, ZERO, GOOD)

    def append_twice(lake: Lake, to: Any, rows: Any, *, real: Any = Lake.append) -> None:
        if to is table:
            real(lake, to, rows)
        real(lake, to, rows)

    monkeypatch.setattr(Lake, "append", append_twice)
    assert job(file) == 0
    assert "another run ingested the same file" in job.err.replace("ingests", "ingested")
    assert job.line["rows"] == {"read": 3, "accepted": 2, "rejected": 1}
    assert [job.lake.read(t).count() for t in TABLES] == [3, 1, 2, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "read", "accepted"),
    [
        ("nyc_green_2013-08.csv.gz", 7623, None),
        ("nyc_yellow_2009-01_sample10k.csv.gz", 10000, None),
    ],
)
def test_real_files(
    job: Job, shared_data: Path, name: str, read: int, accepted: int | None
) -> None:
    assert job(shared_data / "trips" / name) == 0
    rows = job.line["rows"]
    assert rows["read"] == read == rows["accepted"] + rows["rejected"]
    services = {r["service"] for r in job.lake.read(TRIPS).select("service").distinct().collect()}
    assert services == {name.split("_")[1]}


def test_real_file_with_zone_ids_is_refused(job: Job, shared_data: Path) -> None:
    assert job(shared_data / "trips" / "nyc_yellow_2018-2020_locationid_sample20k.csv.gz") == 3
    assert "has zone ids (pickup_location_id), no coordinates: TLC's" in job.line["error"]


@pytest.mark.slow
@pytest.mark.usefixtures("generated_code")
def test_whole_real_day(job: Job, shared_data: Path) -> None:
    assert job(shared_data / "trips" / "nyc_yellow_green_2015-12-01.csv.gz") == 0
    # 411 683 rows by an independent program, see the data's own INDEX.
    assert job.line["rows"] == {"read": 417_740, "accepted": 411_683, "rejected": 6_057}

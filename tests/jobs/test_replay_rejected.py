"""Rejected rows judged again: what becomes a trip, what stays, and that nothing moves twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import replay_rejected
from jobs.ingest_trips import main as ingest
from jobs.ingestion import counts_in_tables
from jobs.lake import Lake
from jobs.replay_rejected import main
from schemas import DELIVERIES, TRIPS, TRIPS_REJECTED
from tests.job_processes import content
from tests.job_runs import Job, job_on

HEADER = (
    "pickup_datetime,dropoff_datetime,pickup_longitude,pickup_latitude,dropoff_longitude,"
    "dropoff_latitude,fare_amount"
)
GOOD = "2015-12-01 08:00:00,2015-12-01 08:10:00,-73.98,40.75,-73.97,40.76,10"
FAR = "2015-12-01 08:00:00,2015-12-01 08:10:00,-71.00,42.50,-73.97,40.76,10"
LONG = "2015-12-01 08:00:00,2015-12-02 09:10:00,-73.98,40.75,-73.97,40.76,10"
ZERO = "2015-12-01 08:00:00,2015-12-01 08:10:00,0,40.75,-73.97,40.76,10"
BROKEN = '2015-12-01 08:00:00,2015-12-01 08:10:00,-73.98,40.75,-73.97,40.76,"10'
WIDER = "--box=40,-75,43,-70"
TABLES = (TRIPS, TRIPS_REJECTED, DELIVERIES)


@pytest.fixture
def delivered(lake: Lake, tmp_path: Path) -> Lake:
    file = tmp_path / "a.csv"
    file.write_text("\n".join((HEADER, GOOD, FAR, LONG, ZERO, BROKEN)) + "\n")
    assert ingest([str(file), "--lake", lake.root]) == 0
    return lake


@pytest.fixture
def job(delivered: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    capsys.readouterr()
    return job_on(delivered, main, capsys)


def rejected(lake: Lake) -> dict[int, list[str]]:
    return {r["source_row"]: r["reasons"] for r in lake.read(TRIPS_REJECTED).collect()}


def versions(lake: Lake) -> list[int | None]:
    return [lake.version(t) for t in TABLES]


@pytest.mark.slow
def test_what_a_wider_box_lets_in_becomes_a_trip_once(job: Job, delivered: Lake) -> None:
    code, line, _ = job(WIDER)
    assert (code, line["rows"]) == (0, {"judged": 4, "accepted": 1})
    assert rejected(delivered) == {2: ["too_long"], 3: ["zero_pickup"], 4: ["unclosed_quote"]}
    (delivery,) = delivered.read(DELIVERIES).collect()
    assert (delivery["rows_accepted"], delivery["rows_rejected"]) == (2, 3)
    assert json.loads(delivery["rules"])["box"] == [40, -75, 43, -70]
    assert json.loads(delivery["rules"])["max_duration_s"] == 86400
    before = versions(delivered)
    code, line, _ = job(WIDER)
    assert (code, line["rows"]) == (0, {"judged": 3, "accepted": 0})
    assert versions(delivered) == before


@pytest.mark.faults
def test_it_ends_as_an_ingestion_under_these_rules_would(
    job: Job, delivered: Lake, tmp_path: Path
) -> None:
    assert job(WIDER, "--max-duration", "48h")[0] == 0
    other = Lake(delivered.spark, str(tmp_path / "other"))
    arguments = [str(tmp_path / "a.csv"), "--lake", other.root, WIDER, "--max-duration", "48h"]
    assert ingest(arguments) == 0
    for table in TABLES:
        assert content(delivered, table, ("run_id",)) == content(other, table, ("run_id",))


@pytest.mark.slow
def test_a_file_is_not_read_by_another_mapping_than_before(job: Job, delivered: Lake) -> None:
    spark, path = delivered.spark, delivered.path(DELIVERIES)
    spark.sql(f"UPDATE delta.`{path}` SET layout = 'mexico'")
    before = versions(delivered)
    code, line, _ = job(WIDER)
    assert code == 3
    assert "was read by the mapping 'mexico', and without it 'nyc_tlc' fits" in line["error"]
    assert versions(delivered) == before


PORTO = """
name = "porto"
timezone = "Europe/Lisbon"
[columns]
pickup_at = ["inicio"]
dropoff_at = ["fim"]
pickup_lat = ["de_lat"]
pickup_lon = ["de_lon"]
dropoff_lat = ["para_lat"]
dropoff_lon = ["para_lon"]
"""


def rules(lake: Lake) -> dict[str, str]:
    return {r["layout"]: r["rules"] for r in lake.read(DELIVERIES).collect()}


@pytest.mark.slow
def test_rules_of_one_city_are_not_for_another(
    delivered: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping, file = tmp_path / "porto.toml", tmp_path / "porto.csv"
    mapping.write_text(PORTO)
    file.write_text(
        "inicio,fim,de_lat,de_lon,para_lat,para_lon\n"
        "2013-07-01 08:00:00,2013-07-01 08:10:00,41.15,-8.61,42.50,-8.60\n"
        "2013-07-01 08:00:00,2013-07-01 08:10:00,0,0,41.15,-8.61\n"
    )
    in_porto = ("--mapping", str(mapping), "--box=41,-9,42,-8", "--timezone", "Atlantic/Azores")
    assert ingest([str(file), "--lake", delivered.root, *in_porto]) == 0
    capsys.readouterr()
    job, before = job_on(delivered, main, capsys), rules(delivered)
    code, line, err = job("--mapping", str(mapping), "--box=41,-9,43,-8")
    assert (code, line["rows"]) == (0, {"judged": 2, "accepted": 1})
    assert (line["files"], line["files_of_other_layouts"]) == (1, 1)
    assert "files of other layouts, which stay as they are: 1, such as file " in err
    now = rules(delivered)
    assert now["nyc_tlc"] == before["nyc_tlc"]
    assert json.loads(now["porto"]) == {
        "box": [41, -9, 43, -8],
        "max_duration_s": 86400,
        "timezone": "Europe/Lisbon",
    }
    delivered.spark.sql(
        f"UPDATE delta.`{delivered.path(DELIVERIES)}` "
        "SET rules = replace(rules, 'New_York', 'Chicago') WHERE layout = 'nyc_tlc'"
    )
    assert job(WIDER)[1]["rows"] == {"judged": 4, "accepted": 1}
    assert rules(delivered)["porto"] == now["porto"]
    assert json.loads(rules(delivered)["nyc_tlc"])["timezone"] == "America/Chicago"


@pytest.mark.slow
def test_a_file_whose_rows_do_not_add_up_does_not_keep_the_others(
    job: Job, delivered: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "b.csv"
    file.write_text("\n".join((HEADER, FAR)) + "\n")
    assert ingest([str(file), "--lake", delivered.root]) == 0
    capsys.readouterr()
    delivered.spark.sql(f"DELETE FROM delta.`{delivered.path(TRIPS)}`")  # the one of a.csv
    code, line, _ = job(WIDER)
    assert (code, line["outcome"]) == (1, "failed")
    assert f"rows do not add up for file:{tmp_path}/a.csv (file " in line["error"]
    assert "5 read, 1 accepted, 3 rejected -- all other files are done; run ingest" in line["error"]
    box = {
        r["paths"][0][-5:]: json.loads(r["rules"])["box"]
        for r in delivered.read(DELIVERIES).collect()
    }
    assert box == {"a.csv": [40, -75, 42, -72], "b.csv": [40, -75, 43, -70]}
    assert DELIVERIES.name in line["tables_out"]


@pytest.mark.slow
def test_a_dry_run_ranks_reasons_and_changes_nothing(
    delivered: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    before = versions(delivered)
    assert main(["--lake", delivered.root, "--dry-run", WIDER]) == 0
    out = capsys.readouterr().out
    assert "pickup_outside_box" in out
    assert "pickup_longitude=-71.00" in out
    assert "trips now: 1" in out
    assert versions(delivered) == before


@pytest.mark.slow
def test_one_reason_alone(job: Job, delivered: Lake) -> None:
    code, line, _ = job(WIDER, "--max-duration", "48h", "--reason", "too_long")
    assert (code, line["rows"]) == (0, {"judged": 1, "accepted": 1})
    assert sorted(rejected(delivered)) == [1, 3, 4]
    (delivery,) = delivered.read(DELIVERIES).collect()
    assert json.loads(delivery["rules"])["max_duration_s"] == 86400  # not those of all rows


@pytest.mark.slow
def test_a_reason_that_no_row_can_have(job: Job, delivered: Lake) -> None:
    before = versions(delivered)
    for reason, said in (
        ("to_long", "did you mean too_long?"),
        ("missing_pickup", "did you mean missing_pickup_at or"),
        ("xyz", "there are dropoff_before_pickup, dropoff_outside_box, missing_"),
    ):
        code, line, _ = job("--reason", reason)
        assert (code, line["outcome"]) == (2, "usage")
        assert f"--reason {reason}: no row is rejected for that: {said}" in line["error"]
    code, line, _ = job("--reason", "unparsable_pickup_at")  # a reason, which no row here has
    assert (code, line["rows"]) == (0, {"judged": 0, "accepted": 0})
    assert versions(delivered) == before


@pytest.mark.faults
def test_a_run_that_was_cut_off_is_completed(
    job: Job, delivered: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> bool:
        raise RuntimeError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(replay_rejected, "_same_rows", cut)  # after the trips are written
        assert job(WIDER)[0] == 1
    file_id = delivered.read(DELIVERIES).collect()[0]["file_id"]
    assert counts_in_tables(delivered, [file_id]) == {file_id: (5, 2, 4)}
    assert job(WIDER)[0] == 0
    assert counts_in_tables(delivered, [file_id]) == {file_id: (5, 2, 3)}
    assert sorted(rejected(delivered)) == [2, 3, 4]

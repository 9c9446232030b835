"""make_trips end to end, and what ingestion makes of its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.ingest_trips import main as ingest
from jobs.lake import Lake
from jobs.make_trips import main
from schemas import TRIPS_REJECTED

_SMALL = ["--trips-per-day", "1500", "--dirty-share", "0.1", "--seed", "7"]


def _made(capsys: pytest.CaptureFixture[str], out: Path, *more: str) -> dict:
    assert main([*_SMALL, "--out", str(out), *more]) == 0
    line: dict = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


def test_a_day_is_the_same_however_many_days_and_processes_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = _made(capsys, tmp_path / "one", "--start-date", "2015-12-02")
    many = _made(capsys, tmp_path / "many", "--days", "3")
    assert [Path(f["path"]).name for f in many["files"]] == [
        f"made_yellow_2015-12-0{d}.csv.gz" for d in (1, 2, 3)
    ]
    name = "made_yellow_2015-12-02.csv.gz"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    assert one["rows"] == {"written": 1500, "dirty": 150, "commuters": 60}
    assert many["rows"]["written"] == 4500
    assert "made, not real" in (tmp_path / "one" / "README.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_ingestion_rejects_the_dirty_rows_alone_each_for_its_reason(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, typed = (_made(capsys, tmp_path / "made", "--format", x) for x in ("csv.gz", "parquet"))
    assert ingest([str(tmp_path / "made"), "--lake", lake.root]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    rejected = lake.read(TRIPS_REJECTED).groupBy("reasons").count().collect()
    assert {tuple(r["reasons"]): r["count"] for r in rejected} == {
        (reason,): n + typed["dirty_by_reason"].get(reason, 0)
        for reason, n in text["dirty_by_reason"].items()
    }
    assert line["rows"] == {"read": 3000, "accepted": 2700, "rejected": 300}
    odd = sum(line["unparsable_optional"].values())
    assert odd == text["flawed_by_kind"]["unparsable_optional"] == 15
    assert not any(typed["flawed_by_kind"].values())


@pytest.mark.parametrize(
    "wrong",
    [["--days", "0"], ["--dirty-share", "2"], ["--seed", "-1"], ["--start-date", "1/12/2015"]],
)
def test_wrong_arguments_exit_2_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path / "x"), *wrong])
    assert stopped.value.code == 2
    assert "write" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert main(["--out", str(tmp_path / "file" / "below")]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["outcome"] == "failed"

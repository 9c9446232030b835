"""The wrapper: exit codes, the last line, what ops.runs tells, and errors in one line."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.lake import Lake
from jobs.run import Run, parser, run_job
from pipelines.errors import DataRefused, UsageError
from schemas import RUNS, TRIPS


def run(
    lake: Lake | str,
    body: Callable[[Run], Mapping[str, Any]],
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON line and standard error."""
    root = lake if isinstance(lake, str) else lake.root
    code = run_job("test", parser("A test.", "  test"), body, ["--lake", root, *arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


def failing(error: BaseException) -> Callable[[Run], Mapping[str, Any]]:
    def body(run: Run) -> Mapping[str, Any]:
        raise error

    return body


def test_done(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    def body(run: Run) -> Mapping[str, Any]:
        lake.create(TRIPS)
        for _ in range(2):
            with run.step("count"):
                run.rows["trips"] = run.read(TRIPS).count()
        run.wrote(TRIPS)
        return {"answer": 42}

    code, line, err = run(lake, body, capsys, "--run-id", "a run")
    assert code == 0
    assert (line["job"], line["run_id"], line["outcome"]) == ("test", "a run", "done")
    assert (line["answer"], line["rows"]) == (42, {"trips": 0})
    assert line["tables_in"] == line["tables_out"] == {"silver.trips": 0}
    assert line["seconds"].keys() == {"start", "count", "total"}
    assert "test: count took" in err
    start, end = lake.read(RUNS).orderBy("at").collect()
    assert (start["run_id"], start["event"], start["outcome"]) == ("a run", "start", "running")
    assert (end["run_id"], end["event"], end["outcome"]) == ("a run", "end", "done")
    assert json.loads(start["arguments"])["lake"] == lake.root
    assert (end["tables_out"], end["rows"]) == ({"silver.trips": 0}, {"trips": 0})
    assert end["versions"].keys() == {"roundtrip", "spark", "python", "java"}


@pytest.mark.parametrize(
    ("error", "code", "outcome", "traceback"),
    [
        (UsageError("no such thing"), 2, "usage", False),
        (DataRefused("no such thing"), 3, "refused", False),
        (KeyError("no such thing"), 1, "failed", True),
    ],
)
def test_errors(
    lake: Lake,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    outcome: str,
    traceback: bool,
) -> None:
    got, line, err = run(lake, failing(error), capsys)
    assert (got, line["outcome"]) == (code, outcome)
    assert "no such thing" in line["error"]
    assert f"test: {line['error']}\n" in err
    assert ("Traceback" in err) == traceback
    end = lake.read(RUNS).where("event = 'end'").collect()[0]
    assert (end["outcome"], end["error"]) == (outcome, line["error"])


def test_missing_table(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    code, line, _ = run(lake, lambda run: {"n": run.read(TRIPS).count()}, capsys)
    assert code == 2
    assert "no table silver.trips at" in line["error"]


def test_failure_of_the_machine_is_one_line(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.txt").write_text("x")

    def body(run: Run) -> Mapping[str, Any]:
        rows = run.spark.read.text(str(tmp_path / "x.txt"))
        (tmp_path / "x.txt").unlink()
        return {"n": len(rows.collect())}

    code, line, err = run(lake, body, capsys)
    assert code == 1
    assert "x.txt" in line["error"]
    assert "Traceback" not in err


def test_an_end_that_cannot_be_recorded_is_a_failure_with_its_reason(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(run: Run) -> Mapping[str, Any]:
        run.begun()
        shutil.rmtree(lake.path(RUNS))
        Path(lake.path(RUNS)).write_text("a file where the table was")
        return {}

    code, line, err = run(lake, body, capsys)
    assert (code, line["outcome"]) == (1, "failed")
    assert line["error"].startswith("the end of this run could not be recorded in ops.runs: ")
    assert line["error"] in err


def test_a_start_that_cannot_be_recorded_stops_the_first_write(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Path(lake.path(RUNS))
    runs.parent.mkdir(parents=True)
    runs.write_text("a file where the table belongs")

    def body(run: Run) -> Mapping[str, Any]:
        run.lake.create(TRIPS)
        raise AssertionError("it was written to")

    code, line, _ = run(lake, body, capsys)
    assert (code, line["outcome"]) == (1, "failed")
    assert str(runs) in line["error"]
    assert not Path(lake.path(TRIPS)).exists()


@pytest.mark.parametrize("place", ["a file", "a file/below"])
def test_lake_that_is_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lake: Lake, place: str
) -> None:
    (tmp_path / "a file").write_text("x")
    code, line, err = run(str(tmp_path / place), lambda run: {}, capsys)
    assert (code, line["outcome"]) == (2, "usage")
    assert f"--lake {tmp_path / place}: " in line["error"]
    assert "Traceback" not in err


def test_lake_that_cannot_be_written_to(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Root may write anywhere; but nobody can make a folder where a file is.
    (tmp_path / ".locks").write_text("")
    code, line, err = run(str(tmp_path), lambda run: {}, capsys)
    assert (code, line["outcome"]) == (2, "usage")
    assert f"--lake {tmp_path}: cannot be written to: File exists" in line["error"]
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--no"], ["--lake", ""], ["--run-id", ""], ["extra"]])
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, line, err = run("x", failing(AssertionError()), capsys, *arguments)
    assert (code, line["outcome"]) == (2, "usage")
    assert line["error"] in err
    assert "Traceback" not in err


def test_run_id_and_lake_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_ID", "from-scheduler")
    monkeypatch.setenv("LAKE", "/some/lake")
    args = parser("A test.", "  test").parse_args([])
    assert (args.run_id, args.lake) == ("from-scheduler", "/some/lake")
    monkeypatch.setenv("RUN_ID", "")
    ids = {parser("A test.", "  test").parse_args([]).run_id for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize("job", ["ingest_trips", "return_trips"])
def test_help_shows_a_worked_example(job: str, capsys: pytest.CaptureFixture[str]) -> None:

    main = importlib.import_module(f"jobs.{job}").main
    with pytest.raises(SystemExit) as e:
        main(["--help"])
    assert e.value.code == 0
    out = capsys.readouterr().out
    assert "example:\n" in out
    assert f"spark-submit jobs/{job}.py " in out

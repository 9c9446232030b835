"""Secrets stay out of logs, of the last line and of ops.runs."""

from __future__ import annotations

import pytest

from jobs.lake import Lake
from jobs.redaction import redacted
from jobs.run import Run, parser, run_job
from schemas import RUNS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3a://KEY:SECRET@bucket/lake", "s3a://***@bucket/lake"),
        ("'jdbc:pg://me:pw@host/db'", "'jdbc:pg://***@host/db'"),
        ("https://x.blob/a?sv=1&sig=abc%2F&se=2", "https://x.blob/a?sv=1&sig=***&se=2"),
        ("fs.s3a.secret.key=abc, next", "fs.s3a.secret.key=***, next"),
        ("AWS_ACCESS_KEY_ID: AKIA1", "AWS_ACCESS_KEY_ID: ***"),
        ("file:/data/a@b.csv, 2 of 3: token", "file:/data/a@b.csv, 2 of 3: token"),
        ("hdfs://host/a/b@c.csv", "hdfs://host/a/b@c.csv"),
    ],
)
def test_what_is_taken_out(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_no_secret_of_an_argument_or_an_error_is_written(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(run: Run) -> dict[str, object]:
        raise RuntimeError("could not read s3a://me:hunter2@bucket/x")

    made = parser("A test.", "  test")
    made.add_argument("--from", dest="source")
    arguments = ["--lake", lake.root, "--from", "s3a://me:hunter2@bucket/x"]
    assert run_job("test", made, body, arguments) == 1
    out, err = capsys.readouterr()
    assert "hunter2" not in out
    assert "hunter2" not in err
    rows = lake.read(RUNS).collect()
    assert len(rows) == 2
    assert not any("hunter2" in str(row) for row in rows)
    assert "s3a://***@bucket/x" in rows[0]["arguments"]

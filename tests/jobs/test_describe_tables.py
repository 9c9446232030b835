"""The data dictionary says what the declarations say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.describe_tables import dictionary, main
from schemas import TABLES

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "tables.md"


def test_committed_dictionary_is_up_to_date() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == dictionary(), "run `make docs`"


def test_every_column_and_constraint_is_described() -> None:
    text = dictionary()
    for table in TABLES:
        assert f"## {table.name}\n" in text
        assert all(f"| `{c.name}` | {c.type.simpleString()} |" in text for c in table.columns)
        assert all(f"- `{name}`: `{sql}`" in text for name, sql in table.checks.items())


def test_job_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "docs" / "tables.md"
    assert main(["--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == dictionary()
    assert [p.name for p in out.parent.iterdir()] == ["tables.md"]
    assert json.loads(capsys.readouterr().out)["tables"] == len(TABLES)
    assert main(["--out", str(out / "below a file.md")]) == 1

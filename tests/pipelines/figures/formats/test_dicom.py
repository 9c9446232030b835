"""DICOM deliveries: files of any name, and that no name of theirs is in a row."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.figures.delivered.limits import MISSING
from pipelines.figures.delivered.places import place_of
from pipelines.figures.delivered.rows import with_figure_ids, with_records_told_apart
from pipelines.figures.formats.delivery import Request
from pipelines.figures.formats.registry import FORMATS
from tests.figure_files import write_zip
from tests.made_dicom import made
from udfs.dicom.keys import record_of_content, record_of_path

pytestmark = pytest.mark.slow

KEY = bytes(range(64))


def ct(patient: str, shade: int = 0) -> bytes:
    """A small CT that names its patient."""
    study = generate_uid(entropy_srcs=[patient])
    who: dict[str, Any] = {"PatientName": f"{patient}^John", "PatientID": f"ID{patient}"}
    return made(np.full((8, 8), shade, np.uint8), StudyInstanceUID=study, **who)


def named(content: bytes) -> str:
    return record_of_content(KEY, hashlib.sha256(content).hexdigest())


def rows_of(spark: SparkSession, source: Path, **told: Any) -> dict[str, dict[str, Any]]:
    url, is_folder = place_of(spark, str(source))
    found = FORMATS["dicom"](spark, Request(url, is_folder, patient_key=KEY, **told))
    rows = with_figure_ids(with_records_told_apart(found.rows), "hospital")
    full = found.with_bytes(rows, list(found.units)).drop("url", "root", "unit").collect()
    return {r["record"]: r.asDict() for r in full}


def test_files_of_any_name_in_folders_and_zips(spark: SparkSession, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    files = {"DOE_JOHN/IM0001": ct("DOE"), "DOE_JOHN/study/1.2.3": ct("DOE", 1), "notes": b"DOE"}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    write_zip(root / "more.zip", {"DOE_JANE.dcm": ct("DOE-JANE")})
    (root / "reports.csv").write_text(
        'file,report,doctor\nDOE_JOHN/IM0001,"A mass.\nNothing else.",DOE\nDOE_JIM/9,later,x\n'
    )
    columns = {"image": "file", "caption": "report"}
    reports = str(root / "reports.csv")
    rows = rows_of(spark, root, reports=reports, columns=columns)
    path_of = {named(content): path for path, content in files.items()}
    path_of |= {
        named(ct("DOE-JANE")): "DOE_JANE.dcm",
        record_of_path(KEY, "DOE_JIM/9", "later"): "DOE_JIM/9",
    }
    by_path = {path_of[record]: row for record, row in rows.items()}
    assert set(by_path) == {*files, "DOE_JANE.dcm", "DOE_JIM/9"}
    assert {p: bytes(by_path[p]["image"]) for p in files} == files
    assert {p: r["caption"] for p, r in by_path.items() if r["caption"]} == {
        "DOE_JOHN/IM0001": "A mass.\nNothing else.",
        "DOE_JIM/9": "later",
    }
    assert {p: r["problem"] for p, r in by_path.items() if r["problem"]} == {
        "DOE_JIM/9": MISSING,
        "notes": "not_dicom",
    }
    first, second = by_path["DOE_JOHN/IM0001"], by_path["DOE_JOHN/study/1.2.3"]
    assert first["modality"] == "CT"
    assert first["fields"]["Rows"] == "8"
    assert first["patient_id"] == second["patient_id"] != by_path["DOE_JANE.dcm"]["patient_id"]
    assert len(first["patient_id"]) == 64
    assert {r["member"] for r in rows.values()} == {None}
    for row in rows.values():
        said = {c: v for c, v in row.items() if c not in ("image", "caption")}
        assert "DOE" not in str(said).upper()


def test_one_zip_is_not_its_neighbours(spark: SparkSession, tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"IM1": ct("A")})
    write_zip(tmp_path / "b.zip", {"IM2": ct("B")})
    (tmp_path / "letter.txt").write_text("private")
    (row,) = rows_of(spark, tmp_path / "a.zip").values()
    assert (bytes(row["image"]), row["record"]) == (ct("A"), named(ct("A")))


def test_one_file(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(ct("A"))
    (tmp_path / "y").write_bytes(ct("B"))
    (row,) = rows_of(spark, tmp_path / "x").values()
    assert (bytes(row["image"]), row["record"]) == (ct("A"), named(ct("A")))


def test_reports_without_their_columns(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("file,report\n")
    with pytest.raises(UsageError, match="--image-column and --caption-column; lacks --caption"):
        rows_of(spark, tmp_path, reports=str(tmp_path / "r.csv"), columns={"image": "file"})

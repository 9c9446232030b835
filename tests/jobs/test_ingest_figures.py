"""The job in this process: what lands, what changes, and that nothing moves twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from jobs.ingest_figures import main
from jobs.lake import Lake
from schemas import FIGURE_DELIVERIES, FIGURES, QUESTIONS, RUNS
from tests.figure_files import jpeg, write_images, write_jsonl, write_tar
from tests.job_runs import Job, job_on
from tests.made_dicom import RAMP, made

pytestmark = pytest.mark.slow

TABLES = (FIGURES, QUESTIONS, FIGURE_DELIVERIES)


@pytest.fixture
def job(lake: Lake, capsys: pytest.CaptureFixture[str]) -> Job:
    return job_on(lake, main, capsys)


def at_length(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.faults)


def versions(lake: Lake) -> list[int | None]:
    return [lake.version(t) for t in TABLES]


def figures(lake: Lake) -> dict[str, Any]:
    rows = lake.read(FIGURES).collect()
    assert len({r["figure_id"] for r in rows}) == len(rows)
    return {r["record"]: r for r in rows}


def counts(line: dict[str, Any]) -> tuple[int, ...]:
    """Rows read, new, changed, unchanged, without an image."""
    rows = line["rows"]
    assert rows["read"] == rows["new"] + rows["changed"] + rows["unchanged"]
    return tuple(rows[c] for c in ("read", "new", "changed", "unchanged", "without_image"))


@pytest.mark.slow
def test_same_again_then_changed_then_with_images(job: Job, lake: Lake, tmp_path: Path) -> None:
    records = [{"image": f"PMC{i}_1.jpg", "caption": f"caption {i}"} for i in range(4)]
    folder = tmp_path / "pmc"
    made = write_images(folder, ["PMC0_1.jpg", "PMC1_1.jpg"])
    path = write_jsonl(folder / "a.jsonl", *records)
    code, line, _ = job(str(folder), "--format", "pmc-oa", "--source", "pmc")
    assert (code, counts(line)) == (0, (4, 4, 0, 0, 2))
    assert line["rows_by_problem"] == {"not_found": 2}
    first = figures(lake)
    one = first["PMC1_1.jpg"]
    assert (bytes(one["image"]), one["caption"]) == (made["PMC1_1.jpg"], "caption 1")
    assert (one["source"], one["format"], one["member"]) == ("pmc", "pmc-oa", "PMC1_1.jpg")
    ids = lake.read(FIGURES).where(F.col("figure_id") != F.xxhash64("source", "record"))
    assert ids.isEmpty()

    # The same under another name changes no figure; the delivery learns the path.
    before = versions(lake)
    path = path.rename(folder / "b.jsonl")
    code, line, _ = job(str(path), "--format", "pmc-oa", "--source", "pmc")
    assert (code, line["deliveries_unchanged"], counts(line)) == (0, 1, (0, 0, 0, 0, 0))
    assert versions(lake)[:2] == before[:2]
    (delivery,) = lake.read(FIGURE_DELIVERIES).collect()
    assert [p.rsplit("/", 1)[-1] for p in delivery["paths"]] == ["a.jsonl", "b.jsonl"]

    # Two captions mended, a figure more, an image that came later, and one that is gone: a row that
    # has its image keeps it.
    records[0]["caption"], records[1]["caption"] = "mended", "mended too"
    write_jsonl(path, *records, {"image": "PMC9_1.jpg", "caption": "more"})
    (folder / "PMC2_1.jpg").write_bytes(jpeg(77))
    (folder / "PMC1_1.jpg").unlink()
    code, line, _ = job(str(folder), "--format", "pmc-oa", "--source", "pmc")
    assert (code, counts(line)) == (0, (5, 1, 3, 1, 3))
    second = figures(lake)
    assert second["PMC0_1.jpg"]["caption"] == "mended"
    assert bytes(second["PMC2_1.jpg"]["image"]) == jpeg(77)
    kept = second["PMC1_1.jpg"]
    assert (bytes(kept["image"]), kept["caption"]) == (made["PMC1_1.jpg"], "mended too")
    changed = {r for r in first if first[r]["revision"] != second[r]["revision"]}
    assert changed == {"PMC0_1.jpg", "PMC1_1.jpg", "PMC2_1.jpg"}
    moved = {r for r in first if first[r]["delivery_id"] != second[r]["delivery_id"]}
    assert moved == changed
    assert all(first[r]["delivered_at"] == second[r]["delivered_at"] for r in first)
    runs = [r["outcome"] for r in lake.read(RUNS).where("event = 'end'").collect()]
    assert runs == ["done"] * 3


@pytest.mark.faults
def test_only_new_shards_are_written(job: Job, lake: Lake, tmp_path: Path) -> None:
    write_tar(tmp_path / "00.tar", {"1.jpg": jpeg(1), "1.txt": b"one"})
    assert job(str(tmp_path), "--format", "webdataset", "--source", "s")[0] == 0
    write_tar(tmp_path / "01.tar", {"1.jpg": jpeg(2), "1.txt": b"two"})
    code, line, _ = job(str(tmp_path), "--format", "webdataset", "--source", "s")
    assert (code, counts(line)) == (0, (1, 1, 0, 0, 0))
    assert (line["deliveries_ingested"], line["deliveries_unchanged"]) == (1, 1)
    assert {r: bytes(x["image"]) for r, x in figures(lake).items()} == {
        "00/1": jpeg(1),
        "01/1": jpeg(2),
    }
    assert lake.read(FIGURE_DELIVERIES).count() == 2


@pytest.mark.faults
def test_questions_land_and_change_with_their_figures(job: Job, lake: Lake, tmp_path: Path) -> None:
    record = {"image_name": "a.jpg", "phrase_type": "freeform", "question": "q", "answer": 2}
    path = tmp_path / "rad.json"
    path.write_text(json.dumps([{**record, "qid": i} for i in range(3)]))
    code, line, _ = job(str(path), "--format", "vqa", "--source", "rad")
    assert (code, line["rows"]["questions"], counts(line)) == (0, 3, (1, 1, 0, 0, 1))
    path.write_text(json.dumps([{**record, "qid": i, "answer": i // 2} for i in (2, 3)]))
    assert job(str(path), "--format", "vqa", "--source", "rad")[0] == 0
    asked = {r["record"]: r for r in lake.read(QUESTIONS).collect()}
    assert {r: x["answer"] for r, x in asked.items()} == {"0": "2", "1": "2", "2": "1", "3": "1"}
    (figure,) = lake.read(FIGURES).collect()
    assert {x["figure_id"] for x in asked.values()} == {figure["figure_id"]}
    assert (figure["caption"], figure["format"]) == (None, "vqa")


def test_a_list_that_is_refused_leaves_no_table(job: Job, lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1,")
    code, line, said = job(str(path), "--format", "vqa")
    assert (code, line["outcome"]) == (3, "refused")
    assert "a.json is no JSON" in line["error"]
    assert "Traceback" not in said
    assert versions(lake) == [None] * 3


@pytest.mark.slow
def test_refused_in_a_worker(job: Job, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"no tar at all")
    code, line, said = job(str(tmp_path), "--format", "webdataset")
    assert code == 3, said
    assert line["error"].endswith("0.tar is no tar archive that can be read: truncated header"), (
        line["error"]
    )
    assert "Traceback" not in said
    assert versions(lake) == [None] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--format", "roco"], "none: no such file or folder"),
        ([".", "--format", "roco"], "holds no captions.txt"),
        ([".", "--format", "tiff"], "argument --format: invalid choice: 'tiff'"),
        (["."], "the following arguments are required: --format"),
        ([".", "--format", "folder", "--encoding", "utf-9"], "--encoding utf-9: no such encoding"),
        (
            [".", "--format", "roco", "--caption-column", "x"],
            "--caption-column: --format roco knows its columns",
        ),
        ([".", "--format", "roco", "--max-image-mb", "0"], "--max-image-mb 0: must be 1 to 1024"),
        ([".", "--format", "folder", "--source", "a'b"], "write letters, digits and . - _"),
    ],
)
def test_usage_errors(
    job: Job,
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, line, said = job(*arguments)
    assert (code, line["outcome"]) == (2, "usage")
    assert message in line["error"]
    assert "Traceback" not in said
    assert versions(lake) == [None] * 3


@pytest.mark.faults
def test_an_image_that_changes_while_it_is_read(
    job: Job, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, ["PMC1.jpg"])
    write_jsonl(tmp_path / "a.jsonl", {"image": "PMC1.jpg", "caption": "x"})

    def change_then_write(lake: Lake, *args: Any, real: Any = Lake.insert_missing) -> None:
        (tmp_path / "PMC1.jpg").write_bytes(jpeg(99))
        real(lake, *args)

    monkeypatch.setattr(Lake, "insert_missing", change_then_write)
    code, line, _ = job(str(tmp_path), "--format", "pmc-oa", "--source", "x")
    assert code == 3
    assert "PMC1.jpg changed while it was read: run again" in line["error"]
    assert lake.read(FIGURES).isEmpty()
    monkeypatch.undo()
    code, line, _ = job(str(tmp_path), "--format", "pmc-oa", "--source", "x")
    assert (code, counts(line)) == (0, (1, 1, 0, 0, 0))


@pytest.mark.parametrize(
    ("source", "arguments", "expected", "asked"),
    [
        at_length("vqa_rad", ["--format", "vqa"], (315, 315, 0, 0, 0), 2248),
        at_length("slake_text", ["--format", "vqa"], (642, 642, 0, 0, 642), 14028),
        at_length("roco_test", ["--format", "roco"], (3743, 3743, 0, 0, 3743), 0),
        pytest.param(
            "cc_chest/metadata.csv",
            [
                *("--format", "folder", "--image-column", "filename"),
                *("--patient-column", "patientid", "--caption-column", "clinical_notes"),
                *("--licence-column", "license"),
            ],
            (38, 38, 0, 0, 0),
            0,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["VQA-RAD", "SLAKE", "ROCO", "cc_chest"],
)
def test_real_deliveries(
    job: Job,
    lake: Lake,
    shared_data: Path,
    source: str,
    arguments: list[str],
    expected: tuple[int, ...],
    asked: int,
) -> None:
    code, line, said = job(str(shared_data / "medical" / source), *arguments)
    assert code == 0, said
    assert (counts(line), line["rows"]["questions"]) == (expected, asked)
    assert lake.read(FIGURES).count() == expected[0]
    if source == "vqa_rad":
        split = {
            r[0]: r[1] for r in lake.read(QUESTIONS).groupBy("published_split").count().collect()
        }
        assert split == {"train": 1797, "test": 451}
        figures_split = lake.read(FIGURES).groupBy("published_split").count().collect()
        # 202 of the 203 test images have training questions too, and one image has none.
        assert {r[0]: r[1] for r in figures_split} == {None: 203, "test": 1, "train": 111}
    if source.startswith("cc_chest"):
        rows = lake.read(FIGURES)
        assert rows.where("caption IS NOT NULL").count() == 8
        assert rows.select("patient_id").distinct().count() == 20
    if source == "roco_test":
        assert (
            lake.read(FIGURES).where("licence LIKE 'CC%' AND article_id LIKE 'PMC%'").count()
            == 3743
        )


@pytest.mark.faults
def test_dicom_of_two_patients_in_files_of_one_name(
    job: Job, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDTRIP_PATIENT_KEY", bytes(range(33, 97)).decode())
    to = ("--format", "dicom", "--source", "h")
    files = {name: made(RAMP, PatientID=name) for name in ("doe", "roe")}
    for name, content in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "IM1").write_bytes(content)
        (tmp_path / name / "list.csv").write_text(f"file,report\nIM1,of {name}\nIM2,later {name}\n")
    with_reports = ("--image-column", "file", "--caption-column", "report", "--reports")

    def deliver(name: str, *more: str) -> tuple[int, ...]:
        code, line, said = job(str(tmp_path / name), *to, *more)
        assert code == 0, said
        return counts(line)

    def held() -> list[tuple[bytes | None, str | None]]:
        rows = figures(lake).values()
        return sorted(((r["image"] and bytes(r["image"]), r["caption"]) for r in rows), key=str)

    doe, roe = ((files[name], f"of {name}") for name in files)
    assert deliver("doe", *with_reports, str(tmp_path / "doe" / "list.csv")) == (2, 2, 0, 0, 1)
    assert deliver("roe", *with_reports, str(tmp_path / "roe" / "list.csv")) == (2, 2, 0, 0, 1)
    waiting = [(None, "later doe"), (None, "later roe")]
    assert held() == sorted([doe, roe, *waiting], key=str)

    # A file that comes once more without its report keeps it, and a report that waited is no row
    # beside its file.
    late = made(RAMP, PatientID="roe", SOPInstanceUID="1.2.9")
    (tmp_path / "roe" / "IM2").write_bytes(late)
    assert deliver("doe") == (1, 0, 0, 1, 0)
    assert deliver("roe", *with_reports, str(tmp_path / "roe" / "list.csv")) == (2, 1, 0, 1, 0)
    assert held() == sorted([doe, roe, (None, "later doe"), (late, "later roe")], key=str)

"""Each format by small deliveries: rows, their images, and what stays of everything else."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from pipelines.errors import UsageError
from pipelines.figures.delivered import limits as why
from pipelines.figures.delivered.limits import Limits
from pipelines.figures.delivered.lists import BAD_LINE
from pipelines.figures.delivered.places import DeliveryRefused, place_of
from pipelines.figures.delivered.rows import with_figure_ids, with_records_told_apart
from pipelines.figures.delivered.tars import BROKEN_SHARD
from pipelines.figures.formats.delivery import Delivered, Request
from pipelines.figures.formats.registry import FORMATS
from tests.figure_files import jpeg, write_images, write_jsonl, write_tar, write_zip

pytestmark = pytest.mark.slow

Rows = dict[str, dict[str, Any]]


def delivered(spark: SparkSession, name: str, source: Path, **told: Any) -> Delivered:
    url, is_folder = place_of(spark, str(source))
    return FORMATS[name](spark, Request(url, is_folder, **told))


def figures(found: Delivered) -> Rows:
    """Rows with their images as they would be written, by record."""
    rows = with_figure_ids(with_records_told_apart(found.rows), "test")
    columns = [
        *("record", "problem", "member", "image", "sha256", "caption", "article_id"),
        *("patient_id", "licence", "published_split", "modality", "fields"),
    ]
    full = found.with_bytes(rows, list(found.units)).select(*columns).collect()
    by_record = {r["record"]: {**r.asDict(), "image": _bytes(r["image"])} for r in full}
    assert len(by_record) == len(full)
    for r in by_record.values():
        assert (r["image"] is None) == (r["sha256"] is None)
    return by_record


def _bytes(image: bytearray | None) -> bytes | None:
    return None if image is None else bytes(image)


def questions(found: Delivered) -> Rows:
    assert found.questions is not None
    return {r["record"]: r.asDict() for r in with_records_told_apart(found.questions).collect()}


def column(rows: Rows, name: str) -> dict[str, Any]:
    return {record: row[name] for record, row in rows.items()}


def test_folder_finds_images_by_name_and_keeps_every_line(
    spark: SparkSession, tmp_path: Path
) -> None:
    root = tmp_path / "delivered [1]"
    made = write_images(root, ["a.jpg", "in/b.JPEG", "in/deep/c.png", "x/same.jpg", "y/same.jpg"])
    (tmp_path / "secret.jpg").write_bytes(jpeg(9))
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "inside.jpg").symlink_to(root / "a.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / "empty.jpg").touch()
    (root / "large.jpg").write_bytes(b"x" * 2000)
    names = [
        *("a.jpg", "./in//b.JPEG", "in\\deep\\c", "deep/c.png", "same.jpg", "gone.jpg", ""),
        *("link.jpg", "inside.jpg", "pipe.jpg", "empty.jpg", "large.jpg", "../secret.jpg"),
        *(str(tmp_path / "secret.jpg"), "a.jpg"),
    ]
    lines = [f"{name};caption {i};p{i % 3}" for i, name in enumerate(names)]
    lines.insert(3, '"never closed;x;y')
    path = root / "list.csv"
    path.write_text("file;text;who\n" + "\n".join(lines) + "\n", encoding="utf-8-sig")
    columns = {"image": "file", "caption": "text", "patient_id": "who"}
    found = figures(
        delivered(spark, "folder", path, columns=columns, limits=Limits(image_bytes=1500))
    )
    assert {r: row["image"] for r, row in found.items() if row["image"] is not None} == {
        "a.jpg": made["a.jpg"],
        "./in//b.JPEG": made["in/b.JPEG"],
        "in\\deep\\c": made["in/deep/c.png"],
        "deep/c.png": made["in/deep/c.png"],
        "inside.jpg": made["a.jpg"],
        "a.jpg#2": made["a.jpg"],
    }
    assert {r: row["problem"] for r, row in found.items() if row["problem"]} == {
        "same.jpg": why.AMBIGUOUS,
        "gone.jpg": why.MISSING,
        "empty.jpg": why.MISSING,
        "line:9": why.NONE_NAMED,
        "line:5": BAD_LINE,
        "link.jpg": why.OUTSIDE,
        "pipe.jpg": why.MISSING,
        "large.jpg": why.TOO_LARGE,
        "../secret.jpg": why.OUTSIDE,
        str(tmp_path / "secret.jpg"): why.OUTSIDE,
    }
    assert found["in\\deep\\c"]["member"] == "in/deep/c.png"
    assert found["line:5"]["fields"] == {"line": '"never closed;x;y'}
    assert found["gone.jpg"]["fields"] == {"file": "gone.jpg"}
    assert (found["a.jpg#2"]["caption"], found["a.jpg#2"]["patient_id"]) == ("caption 14", "p2")


def test_folder_of_json_lines_with_images_elsewhere(spark: SparkSession, tmp_path: Path) -> None:
    made = write_images(tmp_path / "images", ["a.jpg"])
    archive = write_zip(
        tmp_path / "more.zip", {"b.jpg": jpeg(5), "../c.jpg": jpeg(6), "empty.jpg": b""}
    )
    (tmp_path / "lists").mkdir()
    path = write_jsonl(
        tmp_path / "lists" / "x.jsonl",
        {"f": "a.jpg", "id": 1, "split": "val"},
        {"f": "b.jpg", "id": "two"},
        {"f": "c.jpg", "id": 3},
        {"f": "images.zip/b.jpg", "id": 4},
        {"f": "empty.jpg", "id": 5},
    )
    found = delivered(
        spark,
        "folder",
        path,
        columns={"image": "f", "record": "id", "published_split": "split"},
        images=(str(tmp_path / "images"), str(archive)),
    )
    rows = figures(found)
    assert column(rows, "image") == {
        "1": made["a.jpg"],
        "two": jpeg(5),
        "3": None,
        "4": None,
        "5": None,
    }
    assert column(rows, "problem") == {
        "1": None,
        "two": None,
        "3": why.OUTSIDE,
        "4": why.MISSING,
        "5": why.MISSING,
    }
    assert rows["1"]["published_split"] == "val"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "needs the name of the column with the image's path: --image-column"),
        ({"columns": {"image": "nope"}}, "--image-column nope: .* its columns are file, text"),
        (
            {"columns": {"image": "file", "article_id": "pmc"}},
            "--article-column pmc: .* no such column",
        ),
        ({"columns": {"image": "file"}, "images": ("none",)}, "none: no such file or folder"),
    ],
)
def test_folder_that_cannot_be_read(
    spark: SparkSession, tmp_path: Path, told: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.csv").write_text("file,text\n")
    with pytest.raises(UsageError, match=message):
        delivered(spark, "folder", tmp_path / "a.csv", **told)


def test_folder_with_two_lists_or_none(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds none of \*.csv"):
        delivered(spark, "folder", tmp_path, columns={"image": "file"})
    for name in ("a.csv", "b.tsv"):
        (tmp_path / name).write_text("file\n")
    with pytest.raises(UsageError, match="holds several lists"):
        delivered(spark, "folder", tmp_path, columns={"image": "file"})


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_pmc_oa(spark: SparkSession, tmp_path: Path, zipped: bool) -> None:
    names = ["images/PMC1_Fig1.jpg", "images/PMC2_g002.png"]
    if zipped:
        write_zip(tmp_path / "images.zip", {n: jpeg(i) for i, n in enumerate(names)})
    else:
        write_images(tmp_path, names)
    write_jsonl(
        tmp_path / "train.jsonl",
        {"image": "PMC1_Fig1.jpg", "caption": " A CT", "alignment_type": "x", "text": "also"},
        "half a line {",
    )
    write_jsonl(
        tmp_path / "pmc_oa_test.jsonl",
        {"PMC_ID": "PMC7", "media_name": "PMC2_g002", "caption": "b", "license": "CC BY"},
        {"image": "PMC3.jpg", "caption": None},
    )
    rows = figures(delivered(spark, "pmc-oa", tmp_path))
    assert column(rows, "image") == {
        "PMC1_Fig1.jpg": jpeg(0),
        "line:2": None,
        "PMC2_g002": jpeg(1),
        "PMC3.jpg": None,
    }
    first, second = rows["PMC1_Fig1.jpg"], rows["PMC2_g002"]
    assert (first["caption"], first["article_id"], first["licence"]) == (" A CT", "PMC1", None)
    assert first["fields"] == {"image": "PMC1_Fig1.jpg", "alignment_type": "x", "text": "also"}
    assert (second["article_id"], second["licence"]) == ("PMC7", "CC BY")
    splits = {"PMC1_Fig1.jpg": "train", "line:2": None, "PMC2_g002": "test", "PMC3.jpg": "test"}
    assert column(rows, "published_split") == splits


def test_pmc_oa_of_other_names(spark: SparkSession, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"x": 1, "y": 2})
    with pytest.raises(
        DeliveryRefused, match=r"first record has x, y\. --format folder takes names"
    ):
        delivered(spark, "pmc-oa", path)


def write_roco(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "captions.txt.gz").write_bytes(
        gzip.compress(b"ROCO_1\t one\nROCO_2\ttwo\nno tab here\nROCO_1\tagain\n")
    )
    (folder / "keywords.txt").write_text("ROCO_1\t\taxial\tct\nROCO_2\nROCO_9\t\tonly here\n")
    (folder / "licences.txt").write_text(
        "ROCO_ID,PMC_ID,CC\nROCO_1,PMC12_a-1.jpg,CC BY\nROCO_2,PMC13_b,c.jpg,CC BY-NC\n"
    )


def test_roco_without_and_with_its_images(spark: SparkSession, tmp_path: Path) -> None:
    root = tmp_path / "roco"
    write_roco(root / "validation" / "radiology")
    rows = figures(delivered(spark, "roco", root))
    assert column(rows, "caption") == {
        "ROCO_1": " one",
        "ROCO_2": "two",
        "line:3": None,
        "ROCO_1#2": "again",
        "ROCO_9": None,
    }
    assert set(column(rows, "image").values()) == {None}
    one = rows["ROCO_1"]
    assert (one["article_id"], one["licence"], one["published_split"], one["fields"]) == (
        "PMC12",
        "CC BY",
        "validation",
        {"id": "ROCO_1", "keywords": "\taxial\tct", "licences": "PMC12_a-1.jpg,CC BY"},
    )
    assert rows["ROCO_2"]["licence"] == "CC BY-NC"

    made = write_images(root / "validation" / "radiology" / "images", ["ROCO_1.jpg", "ROCO_9.png"])
    rows = figures(delivered(spark, "roco", root))
    found = {r: i for r, i in column(rows, "image").items() if i}
    assert found == {
        "ROCO_1": made["ROCO_1.jpg"],
        "ROCO_1#2": made["ROCO_1.jpg"],
        "ROCO_9": made["ROCO_9.png"],
    }


def test_webdataset(spark: SparkSession, tmp_path: Path) -> None:
    for shard in range(2):
        members: dict[str, bytes] = {}
        for i in range(3):
            members[f"{i}.jpg"] = jpeg(shard * 10 + i)
            members[f"{i}.txt"] = f"caption {i}".encode()
            members[f"{i}.json"] = json.dumps({"pmcid": f"PMC{i}", "width": 24}).encode()
        write_tar(tmp_path / (f"val-{shard}.tar" if shard else "train-0.tar.gz"), members)
    write_tar(tmp_path / "cut.tar", {"a.jpg": jpeg(50), "a.txt": b"a", "b.jpg": jpeg(51)})
    content = (tmp_path / "cut.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: content.index(b"b.jpg") + 600])
    found = delivered(spark, "webdataset", tmp_path)
    assert len(found.units) == 3
    rows = figures(found)
    assert column(rows, "image") == {
        **{f"train-0/{i}": jpeg(i) for i in range(3)},
        **{f"val-1/{i}": jpeg(10 + i) for i in range(3)},
        "cut/a": jpeg(50),
        "cut:broken": None,
    }
    one = rows["val-1/2"]
    assert (one["caption"], one["article_id"], one["published_split"]) == (
        "caption 2",
        "PMC2",
        "val",
    )
    assert one["fields"] == {"width": "24"}
    assert rows["cut:broken"]["problem"] == BROKEN_SHARD
    assert "breaks off" in rows["cut:broken"]["fields"]["error"]


def parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)
    return path


def test_hf_parquet(spark: SparkSession, tmp_path: Path) -> None:
    images = [{"bytes": jpeg(1), "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    images += [{"bytes": jpeg(2), "path": None}, {"bytes": jpeg(1), "path": "a.jpg"}]
    texts = ["one", "two", None, "four"]
    root = tmp_path / "a b+c%20ü"
    parquet(root / "data" / "train-0.parquet", {"image": images, "text": texts, "n": range(4)})
    parquet(root / "data" / "test-0.parquet", {"image": images[:1], "text": ["t"], "x": [[1.5]]})
    rows = figures(delivered(spark, "hf-parquet", root))
    assert column(rows, "image") == {
        "a.jpg": jpeg(1),
        "a.jpg#2": jpeg(1),
        "a.jpg#3": jpeg(1),
        "b.jpg": None,
        "train-0/2": jpeg(2),
    }
    assert column(rows, "caption") == {
        "a.jpg": "t",
        "a.jpg#2": "one",
        "a.jpg#3": "four",
        "b.jpg": "two",
        "train-0/2": None,
    }
    assert rows["a.jpg"]["published_split"] == "test"
    assert rows["a.jpg"]["fields"] == {"x": "[1.5]"}
    assert rows["a.jpg#3"]["fields"] == {"n": "3"}


@pytest.mark.parametrize(
    ("columns", "told", "message"),
    [
        ({"picture": [b"x"], "text": ["a"]}, {}, "known for images; its columns are picture, text"),
        ({"image": ["a.jpg"], "text": ["a"]}, {}, "column image is string: it must be bytes"),
        ({"image": [b"x"], "question": ["a"]}, {}, "or read it with --format vqa"),
        ({"image": [b"x"], "text": ["a"]}, {"caption": "no"}, "has no column no"),
    ],
)
def test_hf_parquet_of_other_columns(
    spark: SparkSession,
    tmp_path: Path,
    columns: dict[str, Any],
    told: dict[str, str],
    message: str,
) -> None:
    path = parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(UsageError, match=message):
        delivered(spark, "hf-parquet", path, columns=told)


def test_parquet_that_is_none(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DeliveryRefused, match="is no Parquet that can be read"):
        delivered(spark, "hf-parquet", tmp_path / "a.parquet")


RAD = {"phrase_type": "freeform", "image_organ": "HEAD", "answer_type": "CLOSED "}


def test_vqa_rad(spark: SparkSession, tmp_path: Path) -> None:
    made = write_images(tmp_path / "VQA_RAD Image Folder", ["s1.jpg", "s2.jpg", "unasked.jpg"])
    (tmp_path / "VQA_RAD Dataset Public.json").write_text(
        json.dumps(
            [
                {**RAD, "qid": "0", "image_name": "s1.jpg", "question": "q", "answer": 4},
                {
                    **RAD,
                    "qid": 1,
                    "image_name": "s1.jpg",
                    "question": "r",
                    "answer": "Yes",
                    "phrase_type": "test_para",
                    "image_case_url": "case/1",
                },
                {**RAD, "qid": 1, "image_name": "s2.jpg", "question": "r\n", "answer": " no "},
                "no record",
            ]
        )
    )
    found = delivered(spark, "vqa", tmp_path)
    rows = figures(found)
    assert column(rows, "image") == {
        "s1.jpg": made["s1.jpg"],
        "s2.jpg": made["s2.jpg"],
        "VQA_RAD Image Folder/unasked.jpg": made["unasked.jpg"],
    }
    alone = delivered(spark, "vqa", tmp_path / "VQA_RAD Dataset Public.json")
    assert set(figures(alone)) == {"s1.jpg", "s2.jpg"}  # what no question names is not of the list
    # One of its questions is of the published test part, another is not.
    assert (rows["s1.jpg"]["published_split"], rows["s2.jpg"]["published_split"]) == (None, "train")
    assert (rows["s1.jpg"]["article_id"], rows["s1.jpg"]["fields"]) == (
        "case/1",
        {"image_organ": "HEAD"},
    )
    asked = questions(found)
    assert set(asked) == {"0", "1", "1#2", "line:4"}
    assert column(asked, "answer") == {"0": "4", "1": "Yes", "1#2": " no ", "line:4": None}
    assert column(asked, "published_split") == {
        "0": "train",
        "1": "test",
        "1#2": "train",
        "line:4": None,
    }
    assert column(asked, "figure_record") == {
        "0": "s1.jpg",
        "1": "s1.jpg",
        "1#2": "s2.jpg",
        "line:4": None,
    }
    assert asked["line:4"]["fields"] == {"line": '"no record"'}
    assert asked["0"]["fields"] == {"phrase_type": "freeform", "image_organ": "HEAD"}
    assert (asked["0"]["answer_type"], asked["0"]["language"]) == ("CLOSED ", "en")


def test_slake_with_two_lists_that_contradict_each_other(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_images(tmp_path / "imgs", ["xmlab1/source.jpg", "xmlab2/source.jpg"])
    for split, lang, first in (("train", "zh", 0), ("test", "en", 10)):
        lines = [
            {"img_name": f"xmlab{i}/source.jpg", "q_lang": lang, "qid": first + i, "question": "q"}
            | {"answer": "MRI", "modality": "MRI", "content_type": "Modality", "location": "Head"}
            for i in ((1, 2, 3) if split == "train" else (1,))
        ]
        path = tmp_path / f"{split}.json.gz"
        path.write_bytes(gzip.compress(json.dumps(lines).encode()))
    found = delivered(spark, "vqa", tmp_path)
    rows = figures(found)
    assert column(rows, "published_split") == {
        "xmlab1/source.jpg": None,
        "xmlab2/source.jpg": "train",
        "xmlab3/source.jpg": "train",
    }
    assert column(rows, "image") == {
        "xmlab1/source.jpg": jpeg(0),
        "xmlab2/source.jpg": jpeg(1),
        "xmlab3/source.jpg": None,
    }
    assert rows["xmlab1/source.jpg"]["modality"] == "MRI"
    asked = questions(found)
    assert column(asked, "language") == {"1": "zh", "2": "zh", "3": "zh", "11": "en"}
    assert asked["11"]["question_type"] == "Modality"


@pytest.mark.parametrize("with_category", [False, True], ids=["training", "test"])
def test_vqa_med(spark: SparkSession, tmp_path: Path, with_category: bool) -> None:
    write_images(tmp_path / "Train_images", ["synpic1.jpg"])
    category = "modality|" if with_category else ""
    (tmp_path / "All_QA_Pairs_train.txt").write_text(
        f"synpic1|{category}is this a ct?|yes\nsynpic1|{category}what is it?|a|b\nsynpic2\n"
        if not with_category
        else f"synpic1|{category}is this a ct?|yes\nsynpic1|{category}what is it?|a\nsynpic2\n"
    )
    found = delivered(spark, "vqa", tmp_path)
    assert column(figures(found), "image") == {"synpic1": jpeg(0)}
    asked = questions(found)
    answers = {"synpic1": "yes", "synpic1#2": "a" if with_category else "a|b", "line:3": None}
    assert column(asked, "answer") == answers
    assert asked["synpic1"]["question"] == "is this a ct?"
    assert asked["synpic1"]["question_type"] == ("modality" if with_category else None)
    assert asked["synpic1"]["published_split"] == "train"


def test_path_vqa_as_parquet(spark: SparkSession, tmp_path: Path) -> None:
    images = [{"bytes": jpeg(i), "path": None} for i in (1, 1, 2)]
    answers = {"question": ["a", "b", "c"], "answer": ["yes", "2", "3"]}
    parquet(tmp_path / "train-0.parquet", {"image": images, **answers})
    parquet(tmp_path / "test-0.parquet", {"image": images[2:], "question": ["d"], "answer": ["4"]})
    found = delivered(spark, "vqa", tmp_path)
    rows = figures(found)
    assert sorted(r["image"] for r in rows.values()) == sorted([jpeg(1), jpeg(2)])
    splits = {r["image"]: r["published_split"] for r in rows.values()}
    assert splits == {jpeg(1): "train", jpeg(2): None}
    asked = questions(found)
    assert set(asked) == {"train-0/0", "train-0/1", "train-0/2", "test-0/0"}
    assert {r["figure_record"] for r in asked.values()} == set(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.pkl", b"", "is a pickle, which runs code when it is opened: convert it"),
        ("a.json", b'[{"x": 1}]', "is of no known layout .* its first record has x"),
        ("a.json", b"[]", "its first record has nothing"),
    ],
)
def test_vqa_that_is_refused(
    spark: SparkSession, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DeliveryRefused, match=message):
        delivered(spark, "vqa", tmp_path)

"""Lists: every shape, every encoding, and lines that are no records."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pipelines.figures.delivered.decoding import encoding_of
from pipelines.figures.delivered.lists import Shape, records, shape_of
from pipelines.figures.delivered.places import DeliveryRefused

UMLAUT = "Röntgen “Thorax” 5 €"


def rows(path: Path, encoding: str | None = None) -> list[tuple[int, dict[str, str] | str]]:
    return list(records(str(path), shape_of(str(path), encoding)))


@pytest.mark.parametrize(
    ("written_as", "said", "taken_for"),
    [
        ("utf-8", None, "utf-8"),
        ("utf-8-sig", None, "utf-8-sig"),
        ("utf-16", None, "utf-16"),
        ("utf-32", None, "utf-32"),
        ("cp1252", None, "cp1252"),
        ("mac-roman", "mac-roman", "mac-roman"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_encodings(
    tmp_path: Path, written_as: str, said: str | None, taken_for: str, compressed: bool
) -> None:
    content = f"file,text\r\na.jpg,{UMLAUT}\r\n".encode(written_as)
    path = tmp_path / ("a.csv.gz" if compressed else "a.csv")
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert encoding_of(str(path), said) == taken_for
    assert rows(path, said) == [(2, {"file": "a.jpg", "text": UMLAUT})]


def test_a_byte_that_is_no_utf_8_far_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"file,text\n" + b"a.jpg,plain\n" * 200_000 + b"b.jpg,\xe9\n")
    assert encoding_of(str(path), None) == "cp1252"


def test_csv_with_quotes_lines_in_cells_and_rows_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('file,text,\na.jpg,"one\ntwo, ""three"""\n\nb.jpg\nc.jpg,x,,y,z\n')
    assert rows(path) == [
        (2, {"file": "a.jpg", "text": 'one\ntwo, "three"'}),
        (5, {"file": "b.jpg"}),
        (6, {"file": "c.jpg", "text": "x", "(column 3)": "y", "(column 4)": "z"}),
    ]


def test_a_quote_that_is_not_closed_takes_its_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{i}.jpg,text {i}" for i in range(50)]
    lines[20] = '20.jpg,"never closed'
    path.write_text("file,text\n" + "\n".join(lines) + "\n")
    found = rows(path)
    assert [line for line, _ in found] == list(range(2, 52))
    assert found[20] == (22, '20.jpg,"never closed')
    assert found[49] == (51, {"file": "49.jpg", "text": "text 49"})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_told_by_the_header(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(delimiter.join(["file", "text"]) + "\n" + delimiter.join(["a", "b"]) + "\n")
    assert rows(path) == [(2, {"file": "a", "text": "b"})]


def test_json_lines_keep_what_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"image": "a.jpg", "n": 3, "deep": {"x": [1, "\xc3\xa9"]}, "none": null, "yes": true}\n'
        b"\n"
        b"{not json}\n"
        b"[1, 2]\n"
        b'{"image": "half a pair: \\ud83d"}\n' + b"[" * 100_000 + b"\n"
    )
    found = rows(path)
    assert found[:4] == [
        (1, {"image": "a.jpg", "n": "3", "deep": '{"x": [1, "é"]}', "yes": "true"}),
        (3, "{not json}"),
        (4, "[1, 2]"),
        (5, {"image": "half a pair: \ufffd"}),
    ]
    assert found[4] == (6, "[" * 100_000)


def test_json_lists_and_objects_that_hold_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": 1}, "text"]))
    assert rows(path) == [(1, {"a": "1"}), (2, '"text"')]
    path.write_text(json.dumps({"info": {}, "annotations": [{"a": 1}]}))
    assert rows(path) == [(1, {"a": "1"})]


def test_lines_cut_at_tabs(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text('R1\t a "quote\tand a tab\nR2\nR3\t\n')
    shape = Shape("cut", "\t", ("id", "caption"))
    assert list(records(str(path), shape)) == [
        (1, {"id": "R1", "caption": ' a "quote\tand a tab'}),
        (2, "R2"),
        (3, {"id": "R3", "caption": ""}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "has no header: it is empty or blank"),
        ("a.csv", b"\n \n", "has no header: it is empty or blank"),
        ("a.csv", b"file,file\n", "has the column 'file' more than once"),
        ("a.csv", b'"' + b"x" * 3_000_000, "has no header that can be read"),
        ("a.json", b"[1,", "is no JSON"),
        ("a.json", b'{"a": 1}', "holds no list of records"),
        (
            "a.csv.gz",
            gzip.compress(b"file,text\n" * 1000, mtime=0)[:-20],
            "is truncated or corrupt",
        ),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DeliveryRefused, match=message):
        rows(path)


def test_another_encoding_than_was_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"file,text\na,\xe9\n")
    with pytest.raises(DeliveryRefused, match="is not in ascii"):
        rows(path, "ascii")

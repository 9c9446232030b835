"""Lists of a delivery (CSV, TSV, JSON, JSON lines, text) as rows of text, one task a list.

A line that is no record is kept: its row has `problem` and its text under "line" in `values`.
Only a list of which nothing can be read (no header, no JSON at all, cut off) is refused.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from pipelines.figures.delivered.decoding import open_text
from pipelines.figures.delivered.places import DeliveryRefused, batches_of
from schemas.frames import frame_of

BAD_LINE = "bad_line"

_FIELD_CHARACTERS = 1 << 20  # more than any caption; a quote that is never closed ends there
_SCHEMA = pa.schema(
    [
        ("list", pa.string()),
        ("position", pa.int64()),
        ("line", pa.int64()),
        ("values", pa.map_(pa.string(), pa.string())),
        ("problem", pa.string()),
    ]
)
_DDL = "list STRING, position BIGINT, line BIGINT, values MAP<STRING, STRING>, problem STRING"


@dataclass(frozen=True)
class Shape:
    """How a list is written.

    `kind`: "csv" (a header, quotes), "jsonl", "json" (one list of objects, or one object that
    holds it), "cut" (no header, no quotes: `columns` by `delimiter`, the last takes the rest).
    """

    kind: str
    delimiter: str = ","
    columns: tuple[str, ...] = ()
    encoding: str | None = None


def shape_of(url: str, encoding: str | None = None) -> Shape:
    """The shape of a list by its ending; the delimiter of CSV is what its header has most of."""
    name = url.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        return Shape("jsonl", encoding=encoding)
    if name.endswith(".json"):
        return Shape("json", encoding=encoding)
    if name.endswith(".tsv"):
        return Shape("csv", "\t", encoding=encoding)
    with _opened(url, encoding) as text:
        header = text.readline(_FIELD_CHARACTERS)
    return Shape("csv", max(",;\t|", key=header.count), encoding=encoding)


def read_lists(spark: SparkSession, lists: Sequence[tuple[str, Shape]]) -> DataFrame:
    """`list` (its URL), `position` from 0, `line` from 1, `values` (name to text), `problem`.

    Text that is not there (a JSON null, an empty cell of CSV) has no entry in `values`.
    """
    shapes = dict(lists)
    urls = frame_of(spark, [(url,) for url in shapes], "url STRING")
    if len(shapes) > 1:
        urls = urls.repartition(min(len(shapes), 4 * spark.sparkContext.defaultParallelism))

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for url in batch.column(0).to_pylist():
                yield from batches_of(_as_rows(url, records(url, shapes[url])), _SCHEMA)

    return urls.mapInArrow(read, _DDL)


def _as_rows(url: str, found: Iterator[tuple[int, dict[str, str] | str]]) -> Iterator[Any]:
    for position, (line, record) in enumerate(found):
        bad = isinstance(record, str)
        yield {
            "list": url,
            "position": position,
            "line": line,
            "values": list(({"line": record} if bad else record).items()),  # type: ignore[union-attr]
            "problem": BAD_LINE if bad else None,
        }


def records(url: str, shape: Shape) -> Iterator[tuple[int, dict[str, str] | str]]:
    """The list's records with the line that each begins on; a str is a line that is no record.

    Raises DeliveryRefused.
    """
    with _opened(url, shape.encoding) as text:
        yield from _READERS[shape.kind](url, text, shape)


@contextmanager
def _opened(url: str, encoding: str | None) -> Iterator[Any]:
    try:
        with open_text(url, encoding) as text:
            yield text
    except UnicodeError as e:
        raise DeliveryRefused(f"{url} is not in {encoding or 'one encoding'}: {e}") from e
    except (EOFError, OSError, zlib.error) as e:
        raise DeliveryRefused(f"{url} cannot be read to its end: {e}") from e


def first_record(url: str, shape: Shape) -> dict[str, str] | None:
    """The first record that is one, to see its names; None where there is none."""
    return next((r for _, r in records(url, shape) if isinstance(r, dict)), None)


def header_of(url: str, shape: Shape) -> list[str]:
    """The names in a CSV's header. Raises DeliveryRefused."""
    with _opened(url, shape.encoding) as text:
        return _header(url, _Lines(text), shape)


class _Lines:
    """Lines of a text, numbered, some of which can be given back to be read again."""

    def __init__(self, text: Any) -> None:
        self.text = text
        self.again: deque[str] = deque()
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self.text)
        self.number += 1
        self.taken.append(line)
        return str(line)

    def give_back(self) -> str:
        """The first line taken since `taken` was emptied; the others will be read again."""
        first, *rest = self.taken
        self.again.extendleft(reversed(rest))
        self.number -= len(rest)
        self.taken = []
        return first


def _header(url: str, lines: _Lines, shape: Shape) -> list[str]:
    try:
        with _long_fields():
            for names in csv.reader(lines, delimiter=shape.delimiter, strict=True):
                if any(n.strip() for n in names):
                    break
            else:
                raise DeliveryRefused(f"{url} has no header: it is empty or blank")
    except csv.Error as e:
        raise DeliveryRefused(f"{url} has no header that can be read: {e}") from e
    header = [n.strip() or f"(column {i})" for i, n in enumerate(names)]
    if twice := sorted({n for n in header if header.count(n) > 1}):
        raise DeliveryRefused(f"{url} has the column {twice[0]!r} more than once")
    return header


@contextmanager
def _long_fields() -> Iterator[None]:
    """Fields of any length that a caption has; the module's limit is one for the whole process."""
    before = csv.field_size_limit(_FIELD_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv(url: str, text: Any, shape: Shape) -> Iterator[tuple[int, dict[str, str] | str]]:
    lines = _Lines(text)
    header = _header(url, lines, shape)
    while True:
        lines.taken = []
        begins = lines.number + 1
        reader = csv.reader(lines, delimiter=shape.delimiter, strict=True)
        try:
            with _long_fields():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # A quote that is not closed may have taken many lines: only the first is bad.
            first = lines.give_back()
            yield begins, first.rstrip("\r\n")
            continue
        if not any(c.strip() for c in cells):
            continue
        names = header + [f"(column {i})" for i in range(len(header), len(cells))]
        named = zip(names, cells, strict=False)  # a short row lacks its last cells
        yield begins, {name: cell for name, cell in named if cell != ""}


def _jsonl(url: str, text: Any, shape: Shape) -> Iterator[tuple[int, dict[str, str] | str]]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        yield number, texts(record) if isinstance(record, dict) else line.rstrip("\r\n")


def _json(url: str, text: Any, shape: Shape) -> Iterator[tuple[int, dict[str, str] | str]]:
    try:
        found = json.load(text)
    except (ValueError, RecursionError) as e:
        raise DeliveryRefused(f"{url} is no JSON: {e}") from e
    if isinstance(found, dict):  # one object that holds the list
        lists = [v for v in found.values() if isinstance(v, list)]
        found = lists[0] if len(lists) == 1 else None
    if not isinstance(found, list):
        raise DeliveryRefused(f"{url} holds no list of records")
    for number, record in enumerate(found, 1):
        yield (
            number,
            texts(record) if isinstance(record, dict) else json.dumps(record),
        )


def _cut(url: str, text: Any, shape: Shape) -> Iterator[tuple[int, dict[str, str] | str]]:
    for number, line in enumerate(text, 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        cells = line.split(shape.delimiter, len(shape.columns) - 1)
        full = len(cells) == len(shape.columns)
        yield number, dict(zip(shape.columns, cells, strict=True)) if full else line


def texts(record: dict[str, Any]) -> dict[str, str]:
    """A JSON object's values as text: numbers as written, what is nested as JSON; no nulls."""
    return {
        _whole(k): _whole(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False))
        for k, v in record.items()
        if v is not None
    }


def _whole(text: str) -> str:
    """The text with half of a UTF-16 pair, which JSON can escape, replaced: no table holds it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


_READERS = {"csv": _csv, "jsonl": _jsonl, "json": _json, "cut": _cut}

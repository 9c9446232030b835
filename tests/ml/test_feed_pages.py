"""Values found where they lie in a Parquet file are those that pyarrow reads."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.feed import open_table
from ml.feed.pages import LEAST_BYTES, Places, places_of
from tests.ml.made_tables import write_vqa

LAYOUT: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": False,
    "data_page_version": "1.0",
    "column_encoding": None,
}


def large(count: int, nulls: Sequence[int] = ()) -> list[bytes | None]:
    random = np.random.default_rng(count)
    sizes = random.integers(LEAST_BYTES, 4 * LEAST_BYTES, count)
    return [None if i in nulls else random.bytes(n) for i, n in enumerate(sizes.tolist())]


def written(values: Sequence[bytes | None], *, nullable: bool = True, **changes: Any) -> bytes:
    field = pa.field("image", pa.binary(), nullable)
    numbers = pa.field("number", pa.int64())
    columns = [pa.array(range(len(values)), pa.int64()), pa.array(values, pa.binary())]
    rows = pa.Table.from_arrays(columns, schema=pa.schema([numbers, field]))
    sink = io.BytesIO()
    pq.write_table(rows, sink, **(LAYOUT | {"data_page_size": 10_000} | changes))
    return sink.getvalue()


def found(content: bytes, group: int = 0, footer: pq.FileMetaData | None = None) -> Places | None:
    footer = footer or pq.read_metadata(io.BytesIO(content))

    def read(at: int, count: int) -> bytes:
        return content[at : at + count]

    return places_of(read, lambda at, count: None, footer, group, "image")


def values_of(places: Places | None) -> list[bytes | None]:
    assert places is not None
    each = zip(places.starts.tolist(), places.lengths.tolist(), strict=True)
    return [places.read(at, n) if n >= 0 else None for at, n in each]


@pytest.mark.parametrize("nullable", [False, True])
@pytest.mark.parametrize("count", [1, 5, 100])
def test_values_are_where_they_are_said_to_be(count: int, nullable: bool) -> None:
    values = large(count)
    assert values_of(found(written(values, nullable=nullable))) == values


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 100_000))
def test_null_has_no_place(missing: list[bool], page_bytes: int) -> None:
    """Whatever runs of NULL there are, and wherever pages end."""
    values = large(len(missing), [i for i, is_missing in enumerate(missing) if is_missing])
    content = written(values, data_page_size=page_bytes, write_batch_size=4)
    places = found(content)
    # With few values left they are small on average, and pyarrow's.
    assert places is None or values_of(places) == values
    if not any(missing):
        assert places is not None


def test_each_row_group_has_its_own() -> None:
    values = large(50)
    content = written(values, row_group_size=20)
    assert [values_of(found(content, group)) for group in range(3)] == [
        values[:20],
        values[20:40],
        values[40:],
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"compression": "snappy"},
        {"use_dictionary": True},
        {"data_page_version": "2.0"},
        {"column_encoding": {"image": "DELTA_LENGTH_BYTE_ARRAY"}},
    ],
)
def test_other_layouts_are_left_to_pyarrow(changes: dict[str, Any]) -> None:
    assert found(written(large(40), **changes)) is None


def test_small_values_are_left_to_pyarrow() -> None:
    assert found(written([b"small"] * 40)) is None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 60_000), st.integers(0, 255))
def test_a_damaged_file_gives_no_value_that_is_not_in_it(at: int, byte: int) -> None:
    """Whatever byte is another one: pages that do not fit are left to pyarrow, without an error."""
    content = bytearray(DAMAGED)
    end = DAMAGED_FOOTER.row_group(0).column(1).data_page_offset + min(at, len(content) - 9000)
    content[end] = byte
    places = found(bytes(content), footer=DAMAGED_FOOTER)
    if places is not None:
        chunk = DAMAGED_FOOTER.row_group(0).column(1)
        ends = places.starts + places.lengths.clip(min=0)
        assert len(places.starts) == 20
        assert (places.starts >= 0).all()
        assert (ends <= chunk.data_page_offset + chunk.total_compressed_size).all()


DAMAGED = written(large(20), data_page_size=5_000)
DAMAGED_FOOTER = pq.read_metadata(io.BytesIO(DAMAGED))


def test_a_table_gives_slices_of_large_images_alone(tmp_path: Path) -> None:
    write_vqa(tmp_path / "small", 40)
    image, answer = open_table(tmp_path / "small").columns(0, 0, ["image", "answer"])
    assert isinstance(image, pa.ChunkedArray)
    assert isinstance(answer, pa.ChunkedArray)

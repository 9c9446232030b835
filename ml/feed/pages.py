"""Large values of a Parquet column where they lie in a local file: nothing is decoded.

prepare_captions writes tables with images uncompressed, for a JPEG does not become smaller. Plain
pages without compression hold each value's length and its bytes, so that the place of a value is
found by going from length to length. What is laid out in any other way is left to pyarrow.

Source: the Parquet format, https://parquet.apache.org/docs/file-format/, whose page headers are
Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

LEAST_BYTES = 1024
"""Of a value, on average: smaller ones are decoded by pyarrow in less time than Python goes."""

_HEADER_BYTES = 16 << 10  # more than a page's header has: two statistics of 4 KiB at most
_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
# Fields of a page's header, and of the part that is a data page's.
_TYPE, _UNCOMPRESSED_SIZE, _SIZE, _DATA_HEADER = 1, 2, 3, 5
_VALUES, _ENCODING, _DEFINITION_ENCODING = 1, 2, 3


Read = Callable[[int, int], bytes]
"""Bytes of a file from a place on, just as many as are asked for."""
ReadAhead = Callable[[int, int], None]
"""Says that of a file so many bytes from a place on will be read."""


@dataclass(frozen=True, eq=False)
class Places:
    """Values of a file: value i has `lengths[i]` bytes from `starts[i]` on, NULL -1."""

    read: Read
    starts: np.ndarray
    lengths: np.ndarray


def places_of(
    read: Read, read_ahead: ReadAhead, footer: pq.FileMetaData, group: int, name: str
) -> Places | None:
    """`Places` of a column in a row group; None where it is not laid out as described above.

    Also None where pages contradict themselves: pyarrow says what is wrong with a damaged file.
    """
    described = footer.row_group(group)
    for number in range(described.num_columns):
        chunk = described.column(number)
        if chunk.path_in_schema == name:
            break
    else:
        return None
    schema = footer.schema.column(number)
    if (
        chunk.physical_type != "BYTE_ARRAY"
        or chunk.compression != "UNCOMPRESSED"
        or chunk.has_dictionary_page
        or schema.max_repetition_level
        or schema.max_definition_level > 1
        or chunk.total_uncompressed_size < LEAST_BYTES * chunk.num_values
    ):
        return None
    start, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
    is_optional = bool(schema.max_definition_level)
    read_ahead(start, end - start)  # a disk gives all of it sooner than its values one by one
    try:
        places = list(_values(read, start, end, chunk.num_values, is_optional))
    except (_OtherLayout, IndexError):
        return None
    at = np.array(places, np.int64).reshape(-1, 2)
    return Places(read, at[:, 0], at[:, 1])


class _OtherLayout(Exception):
    """Pages are not of the layout that is gone through here, or damaged."""


def _values(
    read: Read, start: int, end: int, count: int, is_optional: bool
) -> Iterator[tuple[int, int]]:
    """Place and length of each of `count` values of the pages from `start` to `end`."""
    at, left = start, count
    while left > 0:
        header, header_bytes = _struct(memoryview(read(at, min(_HEADER_BYTES, end - at))), 0)
        at += header_bytes
        page = header.get(_DATA_HEADER)
        if header.get(_TYPE) != _DATA_PAGE or not isinstance(page, dict):
            raise _OtherLayout
        size, values = header.get(_SIZE, -1), page.get(_VALUES, 0)
        is_whole = 0 < values <= left and 0 <= size <= end - at
        if not is_whole or size != header.get(_UNCOMPRESSED_SIZE) or page.get(_ENCODING) != _PLAIN:
            raise _OtherLayout
        page_end = at + size
        there = [True] * values
        if is_optional:
            if page.get(_DEFINITION_ENCODING) != _RLE:
                raise _OtherLayout
            bytes_of_levels = int.from_bytes(read(at, 4), "little")
            at += 4
            if at + bytes_of_levels > page_end:
                raise _OtherLayout
            there = _levels(memoryview(read(at, bytes_of_levels)), values)
            at += bytes_of_levels
        for is_there in there:
            if not is_there:
                yield 0, -1
                continue
            length = int.from_bytes(read(at, 4), "little")
            at += 4
            if at + length > page_end:
                raise _OtherLayout
            yield at, length
            at += length
        if at != page_end:
            raise _OtherLayout
        left -= values


def _levels(data: memoryview, count: int) -> list[bool]:
    """Levels of one bit, in runs of a value or of bits (RLE and bit-packing hybrid)."""
    found: list[bool] = []
    at = 0
    while len(found) < count:
        head, at = _varint(data, at)
        if head & 1:
            groups = head >> 1
            bits = np.frombuffer(data[at : at + groups], np.uint8)
            if len(bits) != groups or not groups:
                raise _OtherLayout
            found += np.unpackbits(bits, bitorder="little").astype(bool).tolist()
            at += groups
        else:
            # A damaged length must not become a list that no memory holds.
            found += [bool(data[at])] * min(head >> 1, count)
            at += 1
            if not head:
                raise _OtherLayout
    return found[:count]


def _struct(data: memoryview, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol: fields by number; and where it ends."""
    if depth > 3:  # a page's header, its data page's, and that one's statistics
        raise _OtherLayout
    fields: dict[int, Any] = {}
    number = 0
    while kind := data[at]:
        at += 1
        step, kind = kind >> 4, kind & 15
        if step:
            number += step
        else:
            zigzag, at = _varint(data, at)
            number = (zigzag >> 1) ^ -(zigzag & 1)
        if kind in (1, 2):  # the value is in the kind
            fields[number] = kind == 1
        elif kind in (4, 5, 6):
            zigzag, at = _varint(data, at)
            fields[number] = (zigzag >> 1) ^ -(zigzag & 1)
        elif kind == 8:
            size, at = _varint(data, at)
            at += size
        elif kind == 12:
            fields[number], at = _struct(data, at, depth + 1)
        else:  # headers of pages have no others
            raise _OtherLayout
    return fields, at + 1


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise _OtherLayout

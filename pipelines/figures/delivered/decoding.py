"""The encoding of a list, and its text."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from typing import IO, Any

from pipelines.figures.delivered.places import DeliveryRefused, open_stream

_BOMS = (  # the longer ones first: UTF-32's begins as UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


def open_text(url: str, encoding: str | None) -> IO[str]:
    """A list as text, gunzipped where its content is gzip, line ends left as they are.

    A byte order mark decides; else `encoding`; else UTF-8 where all of it is that, or Windows-1252,
    which is what exports from spreadsheets of Western languages are.
    """
    chosen = encoding_of(url, encoding)
    return io.TextIOWrapper(_content(url), chosen, errors=_errors(encoding), newline="")


def _errors(encoding: str | None) -> str:
    # Five bytes mean nothing in Windows-1252; a list is not lost for one of them.
    return "strict" if encoding else "replace"


def encoding_of(url: str, encoding: str | None) -> str:
    """The encoding that `open_text` takes. Raises DeliveryRefused where the file is cut off."""
    with _content(url) as stream:
        start = _read(stream, url)
        for mark, name in _BOMS:
            if start.startswith(mark):
                return name
        if encoding:
            return encoding
        decode = codecs.getincrementaldecoder("utf-8")().decode
        try:
            while start:
                decode(start)
                start = _read(stream, url)
            decode(b"", True)
        except UnicodeDecodeError:
            return "cp1252"
        return "utf-8"


def _content(url: str) -> IO[bytes]:
    stream: Any = open_stream(url)
    is_gzip = stream.read(2) == _GZIP
    stream.seek(0)
    content: Any = gzip.GzipFile(fileobj=stream) if is_gzip else stream
    return content


def _read(stream: IO[bytes], url: str) -> bytes:
    try:
        return stream.read(_CHUNK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise DeliveryRefused(f"{url} is truncated or corrupt: {e}") from e

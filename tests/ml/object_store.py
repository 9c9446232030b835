"""A folder served as a bucket of S3, read-only, as far as object stores' clients ask: GET, ranges,
HEAD, and lists of keys. Requests are counted."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "lake"


class Bucket(ThreadingHTTPServer):
    """`bytes_sent` counts the bodies of answers by key."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.bytes_sent: Counter[str] = Counter()

    @property
    def storage_options(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }


@contextmanager
def bucket_of(folder: Path) -> Iterator[Bucket]:
    with Bucket(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
        file = self.server.folder / key
        if not key:
            self._answer(HTTPStatus.OK, self._listed(parse_qs(url.query)), {})
        elif not file.is_file():
            self._answer(HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchKey</Code></Error>", {})
        else:
            self._send(key, file)

    do_HEAD = do_GET  # noqa: N815 (the name that the server calls)

    def _send(self, key: str, file: Path) -> None:
        content = file.read_bytes()
        headers = {"Last-Modified": formatdate(file.stat().st_mtime, usegmt=True), "ETag": '"1"'}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            part, status = content, HTTPStatus.OK
        else:
            first, last = asked.groups()
            size = len(content)
            start = int(first) if first else max(size - int(last), 0)
            stop = min(int(last) + 1, size) if first and last else size
            part, status = content[start:stop], HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if self.command == "GET":
            self.server.bytes_sent[key] += len(part)
        self._answer(status, part, headers)

    def _listed(self, query: dict[str, list[str]]) -> bytes:
        (prefix,) = query.get("prefix", [""])
        after = query.get("start-after", [""])[0]
        entries = []
        for file in sorted(self.server.folder.rglob("*")):
            key = file.relative_to(self.server.folder).as_posix()
            if file.is_file() and key.startswith(prefix) and key > after:
                stat = file.stat()
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{stat.st_size}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        return f"<ListBucketResult>{''.join(entries)}</ListBucketResult>".encode()

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

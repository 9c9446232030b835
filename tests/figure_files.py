"""Small deliveries of figures, made in a test's folder."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image


def jpeg(shade: int) -> bytes:
    """A small JPEG; another shade is another file."""
    made = io.BytesIO()
    Image.new("RGB", (24, 16), (shade % 256, shade * 7 % 256, 90)).save(made, "JPEG")
    return made.getvalue()


def write_images(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """An image of a shade of its own under each name; gives what each file holds."""
    made = {}
    for shade, name in enumerate(names):
        made[name] = jpeg(shade)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made[name])
    return made


def write_jsonl(path: Path, *records: Mapping[str, Any] | str) -> Path:
    """JSON lines; a str is written as it is."""
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """A tar, compressed with gzip where the name says so."""
    mode = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path

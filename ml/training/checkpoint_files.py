"""The files of a checkpoint: tensors of each rank, their index, a manifest that makes it whole.

    NAME/manifest.json             written last; what the checkpoint is, and each index's SHA-256
    NAME/rank-00000.safetensors    this rank's fragments, one-dimensional
    NAME/rank-00000.json           which elements of which parameter they are, size and CRC-32

Tensors are called `KIND/PARAMETER`: `master`, `exp_avg` and `exp_avg_sq` of trained parameters,
`kept` of others, `buffer` and `rng`. A folder whose name ends in `.partial` is no checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipelines.errors import DataRefused

FORMAT = 1
PARTIAL = ".partial"
REPLACED = ".replaced" + PARTIAL
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_CHUNK = 1 << 26  # bytes
_ALIGNMENT = 8  # bytes


class HostCopy:
    """Copies of tensors in one piece of host memory, which is a safetensors file but its header.

    safetensors' own writer wants the tensors apart, copies them once more, and leaves the checksum
    to another pass over the file; all three would be taken from the cores that train.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._header = b""
        self.bytes = 0

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Copies the tensors, from any device; the memory of the last time is used again."""
        ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
        offset, header = 0, {}
        for name, t in ordered:
            header[name] = {
                "dtype": _DTYPES[t.dtype],
                "shape": list(t.shape),
                "data_offsets": [offset, offset + t.nbytes],
            }
            offset += t.nbytes
        text = json.dumps(header).encode()
        self._header = text + b" " * (-len(text) % _ALIGNMENT)
        self.bytes = offset
        on_gpu = any(t.is_cuda for t in tensors.values())
        if len(self._memory) < offset:
            # Pinned memory takes copies from the device at full speed, all at once.
            self._memory = torch.empty(offset, dtype=torch.uint8, pin_memory=on_gpu)
        for name, t in ordered:
            start, end = header[name]["data_offsets"]
            copy = self._memory[start:end].view(t.dtype).view(t.shape)
            copy.copy_(t.detach(), non_blocking=on_gpu)
        if on_gpu:
            torch.cuda.synchronize()

    def write(self, path: Path) -> tuple[int, int]:
        """Writes the safetensors file, on disk when this returns. Gives its bytes and CRC-32."""
        head = len(self._header).to_bytes(8, "little") + self._header
        data = memoryview(self._memory.numpy().data)[: self.bytes]
        with path.open("wb") as f:
            f.write(head)
            checksum = zlib.crc32(head)
            for start in range(0, self.bytes, _CHUNK):
                chunk = data[start : start + _CHUNK]
                f.write(chunk)
                checksum = zlib.crc32(chunk, checksum)
            os.fsync(f.fileno())
        return len(head) + self.bytes, checksum


def write_json(path: Path, content: Any) -> None:
    """Writes a file that is there as a whole or not at all, on disk when this returns."""
    temporary = path.with_name(path.name + PARTIAL)
    with temporary.open("w", encoding="utf-8") as f:
        json.dump(content, f)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder outlast a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Removes what an attempt that was killed left in a folder of checkpoints.

    One that was being replaced, and whose name the new one had not got yet, is whole and stays.
    """
    for replaced in folder.glob("*" + REPLACED):
        named = replaced.with_name(replaced.name.removesuffix(REPLACED))
        if not named.exists():
            replaced.rename(named)
    for left in folder.glob("*" + PARTIAL):
        shutil.rmtree(left)


def index_name(rank: int) -> str:
    """Name of a rank's index."""
    return f"rank-{rank:05}.json"


def tensors_name(rank: int) -> str:
    """Name of a rank's tensors."""
    return f"rank-{rank:05}.safetensors"


def write_manifest(folder: Path, content: dict[str, Any], world: int) -> None:
    """Makes the checkpoint whole. `content` is JSON; the indexes of all ranks are there."""
    indexes = {
        index_name(rank): hashlib.sha256((folder / index_name(rank)).read_bytes()).hexdigest()
        for rank in range(world)
    }
    content = {**content, "format": FORMAT, "world_size": world, "indexes": indexes}
    write_json(folder / "manifest.json", {"sha256": _digest(content), "checkpoint": content})
    sync_folder(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write_manifest` was given. Raises DataRefused where it is no longer that."""
    path = folder / "manifest.json"
    try:
        whole = json.loads(path.read_bytes())
        content: dict[str, Any] = whole["checkpoint"]
        digest = whole["sha256"]
    except FileNotFoundError:
        raise DataRefused(f"{folder} is no whole checkpoint: it has no manifest.json") from None
    except (ValueError, KeyError, TypeError) as e:
        raise DataRefused(f"{path} is damaged: {e}; {_way_out(folder)}") from e
    if _digest(content) != digest:
        raise DataRefused(f"{path} is damaged: its SHA-256 differs; {_way_out(folder)}")
    if content["format"] != FORMAT:
        raise DataRefused(
            f"{folder} has format {content['format']}, and this version reads {FORMAT}"
        )
    return content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _way_out(folder: Path) -> str:
    return f"remove {folder} to go on from the checkpoint before it"


class Reader:
    """Reads ranges of parameters out of a checkpoint, whatever world size wrote it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.indexes: list[dict[str, Any]] = []
        for name, digest in self.manifest["indexes"].items():
            try:
                text = (folder / name).read_bytes()
            except FileNotFoundError:
                raise self._damaged(name, "it is missing") from None
            if hashlib.sha256(text).hexdigest() != digest:
                raise self._damaged(name, "its SHA-256 differs")
            self.indexes.append(json.loads(text))
        # For each tensor: start and end of the piece that a rank wrote, and the rank.
        self._pieces: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for rank, index in enumerate(self.indexes):
            for name, (start, numel) in index["pieces"].items():
                self._pieces[name].append((start, start + numel, rank))
        self._open: dict[int, Any] = {}

    def verify(self, rank: int, world: int) -> None:
        """Checks sizes of all files and every `world`-th file's checksum. Raises DataRefused."""
        for writer, index in enumerate(self.indexes):
            path = self.folder / tensors_name(writer)
            if not path.is_file():
                raise self._damaged(path.name, "it is missing")
            if path.stat().st_size != index["bytes"]:
                raise self._damaged(
                    path.name, f"it has {path.stat().st_size} bytes instead of {index['bytes']}"
                )
            if writer % world == rank and _checksum(path) != index["crc32"]:
                raise self._damaged(path.name, "its CRC-32 differs")

    def names(self, kind: str) -> set[str]:
        """The parameters or buffers that have a tensor of this kind."""
        prefix = kind + "/"
        return {name.removeprefix(prefix) for name in self._pieces if name.startswith(prefix)}

    def kinds(self) -> set[str]:
        """The kinds of tensors that there are."""
        return {name.split("/", 1)[0] for name in self._pieces}

    def has(self, name: str) -> bool:
        """Whether any rank wrote a piece of this tensor, such as `exp_avg/llm.head.weight`."""
        return name in self._pieces

    def read(self, name: str, start: int, numel: int) -> Tensor:
        """Elements [start, start + numel) of a tensor, 1-D. Raises DataRefused for a gap."""
        parts = []
        at = start
        for first, last, rank in sorted(self._pieces.get(name, ())):
            begin, end = max(first, start), min(last, start + numel)
            if begin < end and begin == at:
                parts.append(self.of_rank(rank).get_slice(name)[begin - first : end - first])
                at = end
        if at != start + numel:
            raise DataRefused(f"{self.folder} lacks elements of {name} from {at} on")
        return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else torch.empty(0)

    def of_rank(self, rank: int) -> Any:
        """The open safetensors file of the rank that wrote it."""
        if rank not in self._open:
            path = self.folder / tensors_name(rank)
            try:
                self._open[rank] = safe_open(path, framework="pt")
            except SafetensorError as e:
                raise self._damaged(path.name, str(e)) from e
        return self._open[rank]

    def _damaged(self, file: str, why: str) -> DataRefused:
        return DataRefused(f"{self.folder / file} is damaged: {why}; {_way_out(self.folder)}")


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as f:
        while chunk := f.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum

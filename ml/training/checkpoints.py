"""Checkpoints of a DeepSpeed engine that any world size and any ZeRO stage go on from.

Each rank writes the fp32 masters and the optimiser's averages of its own partition, safetensors
and JSON, nothing that is unpickled; `load` cuts them anew. Weights in 16 bits come from their
masters. Frozen parameters are not written: they come from where they came from, and `load` checks
that they are the same. docs/training-checkpoints.md has the format and what it costs.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator
from torch import Tensor
from torch import distributed as dist

from ml.training import checkpoint_files as files
from ml.training import checkpoint_fit as fit
from ml.training import checkpoint_fragments as fragments
from pipelines.errors import DataRefused, UsageError

_POLL_SECONDS = 0.1
_NOT_AVERAGES = {"master", "kept", "buffer", "rng"}


class CheckpointFailed(RuntimeError):
    """A checkpoint was not written. The one before is whole, and training can go on."""


def latest(folder: Path | str) -> Path | None:
    """The newest whole checkpoint in a folder, if there is one.

    Raises DataRefused for a manifest that is damaged, rather than go back silently.
    """
    whole = _whole(Path(folder))
    return whole[-1] if whole else None


class Checkpointer:
    """Writes checkpoints of a run into a folder that all ranks share, beside training.

    `save` copies the tensors to host memory and returns; a thread writes them. A checkpoint is a
    folder that gets its name last, when all of it is on disk: a kill at any moment leaves the ones
    before. The newest `keep` stay. `carried` names frozen parameters to write all the same, as an
    earlier stage of training has changed them.

    All ranks make the same calls: `save` and `wait` talk to the others. What goes wrong in the
    thread of any rank is raised by the next call on all, as CheckpointFailed: the checkpoint before
    is untouched, what was written of this one is gone, and a caller may go on and save again.
    """

    def __init__(
        self, folder: Path | str, keep: int = 2, carried: Collection[str] = frozenset()
    ) -> None:
        if keep < 1:
            raise UsageError(f"keep must be 1 or more, not {keep}")
        self._folder = Path(folder)
        self._keep = keep
        self._carried = set(carried)
        self._copy = files.HostCopy()
        self._fingerprints: dict[str, int] | None = None
        self._writing: _Task | None = None
        self._finishing: _Task | None = None
        self._abandoned = threading.Event()
        self._partial = self._folder
        if _rank() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            files.clear(self._folder)

    def save(self, engine: Any, *, name: str, state: dict[str, Any]) -> None:
        """Starts to write a checkpoint; between two optimiser steps, on all ranks.

        Waits for the write before. `name` becomes the folder's name; a checkpoint of that name is
        replaced. `state` comes back from `load` as JSON gives it back; that of rank 0 counts.
        Raises CheckpointFailed for the write before, UsageError for what cannot be saved.
        """
        self.wait()
        rank, world = _rank(), _world()
        if self._fingerprints is None:
            frozen = fit.frozen(engine) - self._carried
            self._fingerprints = fragments.fingerprints(engine, frozen, rank, world)
        partial = self._folder / (name + files.PARTIAL)
        error: Exception | None = None
        try:
            if rank == 0:
                partial.mkdir()
            manifest = {**fit.description(engine, self._fingerprints), "name": name, "state": state}
            manifest = _json(manifest)
            tensors, index = _content(engine, self._carried)
            self._copy.take(tensors)
        except Exception as e:  # all ranks have to hear of it, or they would wait for this one
            error = e
        try:
            _agree(error)
        except (UsageError, CheckpointFailed):
            self._remove(partial)
            raise

        def write() -> None:
            partial.mkdir(exist_ok=True)  # another host may not see it yet
            tensors_file = partial / files.tensors_name(rank)
            try:
                size, checksum = self._copy.write(tensors_file)
                whole = {**index, "bytes": size, "crc32": checksum}
                files.write_json(partial / files.index_name(rank), whole)
            except OSError:
                # On a full disk others have to go on writing, long before the next `wait`.
                tensors_file.unlink(missing_ok=True)
                raise

        self._partial = partial
        self._abandoned.clear()
        self._writing = _Task(write)
        if rank == 0:
            self._finishing = _Task(lambda: self._finish(partial, name, manifest, world))

    def wait(self) -> None:
        """Returns when the last checkpoint is whole. Raises CheckpointFailed if it is not."""
        if self._writing is None:
            return
        writing, finishing = self._writing, self._finishing
        self._writing = self._finishing = None
        try:
            _agree(_failure(writing, self._partial))
            _agree(_failure(finishing, self._partial))
        except CheckpointFailed:
            self._abandoned.set()
            if finishing is not None:
                finishing.join()
            self._remove(self._partial)
            raise

    def _finish(self, partial: Path, name: str, manifest: dict[str, Any], world: int) -> None:
        """Waits until all ranks have written; then makes the checkpoint whole and drops old ones.

        Ranks tell each other through the folder, as collective calls belong to the training thread.
        """
        missing = set(range(world))
        while missing := {r for r in missing if not (partial / files.index_name(r)).exists()}:
            if self._abandoned.wait(_POLL_SECONDS):
                return
        before = _whole(self._folder)
        number = 1 + max((_number(path) or 0 for path in before), default=0)
        saved_at = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {**manifest, "number": number, "saved_at": saved_at}
        files.write_manifest(partial, manifest, world)
        final = self._folder / name
        replaced = self._folder / (name + files.REPLACED)
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        files.sync_folder(self._folder)
        if replaced.exists():
            shutil.rmtree(replaced)
        for old in _whole(self._folder)[: -self._keep]:
            self._drop(old)

    def _drop(self, checkpoint: Path) -> None:
        """Removes a checkpoint, which stops being one before its first file is gone."""
        dropped = checkpoint.with_name(f"{checkpoint.name}.old{files.PARTIAL}")
        checkpoint.rename(dropped)
        shutil.rmtree(dropped)

    def _remove(self, partial: Path) -> None:
        if _rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)


def load(engine: Any, path: Path | str) -> dict[str, Any]:
    """Puts a checkpoint into an engine, on all ranks, and gives back the `state` saved with it.

    World size, ZeRO stage, precision and offload may differ from the writer's. Counters of steps,
    loss scale, learning rates and their schedule go on. Random states do rank by rank; a rank that
    the writer did not have keeps the one that it was started with.

    Raises DataRefused for files that are damaged, and UsageError, which names what differs, for
    another model. The engine is unchanged then.
    """
    rank, world = _rank(), _world()
    error: Exception | None = None
    try:
        reader = files.Reader(Path(path))
        reader.verify(rank, world)
    except DataRefused as e:
        error = e
    _agree(error)
    saved = reader.manifest
    kept = reader.names("kept")
    frozen = fit.frozen(engine) - kept
    prints = fragments.fingerprints(engine, frozen, rank, world)
    differences = fit.differences(fit.description(engine, prints), saved, kept)
    if differences:
        raise UsageError(f"{path} is of another model: " + "; ".join(differences))

    _read_masters(engine, reader)
    _read_kept(engine, reader, kept)
    fragments.weights_from_masters(engine)
    for name, buffer in fit.buffers(engine).items():
        buffer.copy_(reader.read(f"buffer/{name}", 0, buffer.numel()).view(buffer.shape))
    for group, rate in zip(
        fragments.base_optimizer(engine).param_groups, saved["learning_rates"], strict=True
    ):
        group["lr"] = rate
    if engine.lr_scheduler is not None:
        engine.lr_scheduler.load_state_dict(saved["lr_scheduler"])
    fragments.set_loss_scale_state(engine, saved["loss_scale"])
    for counter, value in saved["counters"].items():
        setattr(engine, counter, value)
    # Between two steps, at any count of micro-batches.
    engine.micro_steps = engine.global_steps * engine.gradient_accumulation_steps()
    if rank < len(reader.indexes):
        _restore_random(reader.indexes[rank]["random"], reader, rank)
    state: dict[str, Any] = saved["state"]
    return state


def load_masters(engine: Any, path: Path | str) -> None:
    """Puts into an engine's fp32 masters what a checkpoint of the stage before holds of them.

    The engine made them of weights in its own format, which may be 16 bits. Parameters that were
    not trained there stay as they are. The files are taken to be whole. All ranks must call it.
    """
    reader = files.Reader(Path(path))
    for master in fragments.masters(engine):
        for f in master.fragments:
            if f.numel and reader.has(f"master/{f.name}"):
                fragments.put(
                    master.tensor, f.offset, reader.read(f"master/{f.name}", f.start, f.numel)
                )
    fragments.weights_from_masters(engine)


def _content(engine: Any, carried: set[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What this rank writes: its tensors, and the index that says what they are."""
    rank, world = _rank(), _world()
    tensors: dict[str, Tensor] = {}
    pieces: dict[str, list[int]] = {}  # start and count of elements
    steps: dict[str, float] = {}
    for master in fragments.masters(engine):
        for f in master.fragments:
            # Where all ranks hold the same, each writes a part of it.
            skip, numel = fragments.share(f.numel, rank, world) if master.whole else (0, f.numel)
            if "step" in master.state:
                steps[f.name] = float(master.state["step"])
            for kind, tensor in master.tensors().items():
                key = f"{kind}/{f.name}"
                tensors[key] = fragments.elements(tensor, f.offset + skip, numel)
                pieces[key] = [f.start + skip, numel]
    for name, start, values in fragments.kept_fragments(engine, carried, rank, world):
        tensors[f"kept/{name}"], pieces[f"kept/{name}"] = values, [start, len(values)]
    if rank == 0:
        for name, buffer in fit.buffers(engine).items():
            key = f"buffer/{name}"
            tensors[key], pieces[key] = buffer.reshape(-1), [0, buffer.numel()]
    tensors["rng/torch"] = torch.get_rng_state()
    if _has_device():
        tensors["rng/device"] = get_accelerator().get_rng_state()
    return tensors, {"pieces": pieces, "steps": steps, "random": _random_state()}


def _json(manifest: dict[str, Any]) -> dict[str, Any]:
    """A copy that nothing changes any more, as JSON would give it back. Raises UsageError."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(manifest))
        return copy
    except (TypeError, ValueError) as e:
        raise UsageError(f"state, or the learning rate schedule, is no JSON: {e}") from e


def _read_masters(engine: Any, reader: files.Reader) -> None:
    steps = {name: s for index in reader.indexes for name, s in index["steps"].items()}
    averages = reader.kinds() - _NOT_AVERAGES
    for master in fragments.masters(engine):
        mine = [f for f in master.fragments if f.numel]
        for f in mine:
            values = reader.read(f"master/{f.name}", f.start, f.numel)
            fragments.put(master.tensor, f.offset, values)
        stepped = [f for f in mine if f.name in steps]
        if not stepped:  # saved before the first step, or never given a gradient
            master.state.clear()
            continue
        fragments.set_step(engine, master, max(steps[f.name] for f in stepped))
        for kind in averages:
            if kind not in master.state:
                master.state[kind] = torch.zeros_like(master.tensor)
            for f in mine:
                key = f"{kind}/{f.name}"
                values = torch.zeros(f.numel)
                if reader.has(key):
                    values = reader.read(key, f.start, f.numel)
                fragments.put(master.state[kind], f.offset, values)


def _read_kept(engine: Any, reader: files.Reader, kept: Collection[str]) -> None:
    for name, p in engine.module.named_parameters():
        if name in kept:
            partitioned = hasattr(p, "ds_tensor")
            numel = fragments.numel_of(p)
            start, length = fragments.share(numel, _rank(), _world()) if partitioned else (0, numel)
            target = p.ds_tensor if partitioned else p
            fragments.put(target, 0, reader.read(f"kept/{name}", start, length))


def _random_state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    return {"python": [version, list(words), gauss], "numpy": numpy, "device": _has_device()}


def _restore_random(saved: dict[str, Any], reader: files.Reader, rank: int) -> None:
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    key = np.array(saved["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state({**saved["numpy"], "state": {**saved["numpy"]["state"], "key": key}})
    tensors = reader.of_rank(rank)
    torch.set_rng_state(tensors.get_tensor("rng/torch"))
    if _has_device() and saved["device"]:
        get_accelerator().set_rng_state(tensors.get_tensor("rng/device"))


def _has_device() -> bool:
    return bool(get_accelerator().device_name() != "cpu")


def _whole(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, the oldest first."""
    found = [p for p in folder.glob("*") if not p.name.endswith(files.PARTIAL)]
    numbered = [(number, p) for p in found if (number := _number(p)) is not None]
    return [p for _, p in sorted(numbered)]


def _number(checkpoint: Path) -> int | None:
    """The place of a checkpoint in its run, from 1; None for a folder that is none."""
    if not (checkpoint / "manifest.json").exists():
        return None
    number: int = files.read_manifest(checkpoint)["number"]
    return number


class _Task(threading.Thread):
    """A thread that keeps the error it ended with, and does not outlive the process."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self._work = work
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except Exception as e:
            self.error = e


def _failure(task: _Task | None, partial: Path) -> CheckpointFailed | None:
    if task is None:
        return None
    task.join()
    if task.error is None:
        return None
    free = shutil.disk_usage(partial.parent).free
    return CheckpointFailed(
        f"checkpoint {partial.name.removesuffix(files.PARTIAL)} failed: {task.error} "
        f"({free / 1e9:.1f} GB free in {partial.parent}); the one before is whole"
    )


def _agree(error: Exception | None) -> None:
    """Raises on all ranks if any has an error. All ranks must call it."""
    mine = None if error is None else (type(error).__name__, str(error))
    told: list[tuple[str, str] | None] = [mine]
    if _world() > 1:
        told = [None] * _world()
        dist.all_gather_object(told, mine)
    for rank, its in enumerate(told):
        if its is not None:
            kind, message = its
            known = {c.__name__: c for c in (UsageError, DataRefused)}
            raise known.get(kind, CheckpointFailed)(f"rank {rank}: {message}") from error


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1

"""One rank of a training run: `python -m ml.training.worker RUN_FOLDER`.

It goes through the stages of the run's recipe, from the latest whole checkpoint on, where there is
one. Exit codes: 0 for done, or stopped with a checkpoint, 2 and 3 as those of jobs, 1 for the rest.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import deepspeed
import torch
import transformers
from torch import distributed as dist

from ml.feed import VALIDATION, Feed, PinnedTable, TokenIds, open_table, read_token_ids
from ml.feed.order import ORDER
from ml.memory.counts import counts_of
from ml.models import processor_of
from ml.models.artefact import save_artefact
from ml.models.tuning import parameter_groups
from ml.training.checkpoint_files import clear, read_manifest
from ml.training.checkpoint_fragments import masters
from ml.training.checkpoints import Checkpointer, CheckpointFailed, latest, load, load_masters
from ml.training.engine import (
    close_engine,
    config_of,
    join_ranks,
    open_engine,
    weights_dtype,
)
from ml.training.loop import NotFinite, Position, mean_loss, train
from ml.training.metrics import Reporter, StepRow, peak_flops
from ml.training.runs import TOKEN_IDS, Ended, RunFolder
from ml.training.weights import model_of_stage, trained_model
from pipelines.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_USAGE,
    DataRefused,
    UsageError,
)


@dataclass(frozen=True)
class Saved:
    """A checkpoint, and where the run stood: in which stage, at which step, whether at its end."""

    path: Path
    stage: int
    position: Position
    ended: bool

    def is_in(self, stage: int) -> bool:
        return self.stage == stage and not self.ended


class Worker:
    """A rank that goes through the stages of a run."""

    def __init__(self, folder: RunFolder, told_to_stop: Callable[[], bool]) -> None:
        self.folder, self.run = folder, folder.read()
        self.recipe = self.run.recipe
        # A stage of Spark's that was started again is another start of the run.
        self.attempt = self.run.attempt + int(os.environ.get("ROUNDTRIP_ATTEMPT", "0"))
        self.told_to_stop = told_to_stop
        join_ranks()
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.processor = processor_of(self.recipe.model)
        self.tables = {kind: self.opened(kind) for kind in self.run.tables if kind != TOKEN_IDS}
        self.reporter: Reporter | None = None
        if self.rank == 0:
            self.reporter = Reporter(folder, tensorboard=self.run.tensorboard)
        self.token_ids = self.known_token_ids()

    def opened(self, kind: str) -> PinnedTable:
        source, cache = self.run.tables[kind], self.run.feed_cache
        return open_table(source.path, source.version, cache_dir=Path(cache) if cache else None)

    def known_token_ids(self) -> TokenIds | None:
        """Token ids that the lake has by the model's tokenizer; they change no number."""
        if TOKEN_IDS not in self.run.tables:
            return None
        sha256 = self.processor.tokenizer_sha256()
        if sha256 is None:
            return None
        try:
            known = read_token_ids(self.opened(TOKEN_IDS), sha256)
        except UsageError as e:
            self.say(f"texts are tokenised, for their ids cannot be had: {e}")
            return None
        self.say(f"token ids of {len(known):,} texts are known")
        return known

    def train(self) -> None:
        """Go through the stages that are left, and leave the model.

        Raises NotFinite, CheckpointFailed, UsageError, DataRefused.
        """
        if self.rank == 0:
            clear(self.folder.checkpoints)
        saved = self.latest()
        if saved is not None:
            self.say(f"going on from checkpoint {saved.path.name}")
        first = 0 if saved is None else saved.stage + saved.ended
        for number in range(first, len(self.recipe.stages)):
            if not self.stage(number, saved):
                self.end("stopped", self.latest())
                return
            saved = self.latest()
            gc.collect()  # engines are in cycles, and the next one needs the memory
        self.end("done" if saved and saved.ended else "paused", saved)

    def stage(self, number: int, saved: Saved | None) -> bool:
        """Take a stage's steps, those that are left of it; False where it was told to stop."""
        stage = self.recipe.stages[number]
        is_last = number + 1 == len(self.recipe.stages)
        pause_at = self.run.pause_at if is_last else None
        goes_on = saved is not None and saved.is_in(number)
        position = saved.position if saved and goes_on else Position()
        before = saved.path if saved and not goes_on else None
        model, carried = model_of_stage(self.recipe, number, before)
        torch.manual_seed((self.recipe.seed << 20) + (number << 10) + self.rank)
        feed_of = partial(
            Feed,
            self.tables[stage.data],
            stage=stage,
            data=self.recipe.data,
            processor=self.processor,
            seed=self.recipe.seed + number,
            rank=self.rank,
            world=self.world,
            token_ids=self.token_ids,
        )
        feed = feed_of(start=position.examples)
        # Made once: it looks through the table for its rows, and finds out now if there are none.
        validation = feed_of(part=VALIDATION) if stage.validate_every or pause_at else None
        until = feed.steps if pause_at is None else max(1, math.ceil(pause_at * feed.steps))
        counts = counts_of(model)  # ZeRO-3 will cut it
        config = config_of(
            stage,
            model,
            rank_batch=-(-stage.global_batch // (self.world * feed.accumulation)),
            accumulation=feed.accumulation,
            nvme=Path(tempfile.gettempdir()) / f"roundtrip-{self.run.run_id}",
        )
        engine = open_engine(model, parameter_groups(model, stage), stage, config)
        masters(engine)  # what cannot be saved is refused now
        checkpointer = Checkpointer(self.folder.checkpoints, stage.keep_checkpoints, carried)
        dist.barrier()  # the first rank has cleared the folder of what a kill left
        if saved and goes_on:
            load(engine, saved.path)
        elif before is not None and weights_dtype(stage) != torch.float32:  # else they are the same
            load_masters(engine, before)
        self.say(
            f"{stage.name}: {feed.steps} steps of {stage.global_batch} examples, "
            f"{counts.trained:,} of {counts.total:,} parameters trained"
        )

        def save(at: Position, *, ends: bool = False) -> None:
            name, state = f"{stage.name}-{at.step:06}", self.state(number, at, feed.steps)
            write = partial(checkpointer.save, engine, name=name, state=state)
            saved_or_said(checkpointer.wait, write, self.say, ends=ends or at.step == until)

        def record(row: StepRow) -> None:
            if self.reporter:
                self.reporter.step(row, steps=feed.steps)

        try:
            untold = train(
                engine,
                feed,
                stage,
                steps=feed.steps,
                until=until,
                position=position,
                attempt=self.attempt,
                record=record,
                save=save,
                validate=partial(mean_loss, engine, validation) if validation is not None else None,
                told_to_stop=self.told_to_stop,
                peak=peak_flops(stage.precision),
            )
        except NotFinite as e:
            checkpointer.wait()
            good = self.latest()
            kept = f"the last checkpoint is {good.path}" if good else "there is no checkpoint yet"
            raise NotFinite(f"{e}; {kept}") from e
        if not untold:
            save(position, ends=True)
        checkpointer.wait()
        close_engine(engine)
        return untold

    def state(self, number: int, at: Position, steps: int) -> dict[str, Any]:
        """What a checkpoint says of the run: all that its numbers depend on."""
        return {
            "run_id": self.run.run_id,
            "stage": number,
            "position": asdict(at),
            "ended": at.step == steps,
            "tables": self.hashes(),
            "feed_order": ORDER,
            "table_versions": self.run.table_versions,
            "recipe": self.recipe.model_dump(mode="json"),
            "versions": dict(self.run.versions),
        }

    def hashes(self) -> dict[str, str]:
        return {self.run.tables[kind].name: t.content_hash for kind, t in self.tables.items()}

    def latest(self) -> Saved | None:
        """The latest whole checkpoint, the same one on all ranks. Raises DataRefused."""
        names: list[str | None] = [None]
        if self.rank == 0 and (path := latest(self.folder.checkpoints)):
            names = [path.name]
        dist.broadcast_object_list(names)
        if names[0] is None:
            return None
        path = self.folder.checkpoints / names[0]
        state = read_manifest(path)["state"]
        check_goes_on(path, state, self.hashes())
        return Saved(path, state["stage"], Position(**state["position"]), state["ended"])

    def end(self, outcome: Any, saved: Saved | None) -> None:
        """Leave the model where all was done, and say how the run ended."""
        dist.destroy_process_group()
        if self.reporter is None:
            return
        name = saved.path.name if saved else None
        sizes: dict[str, int] = {}
        if saved and outcome == "done":
            model = trained_model(self.recipe, saved.path)
            counts = counts_of(model)
            sizes = {"parameters": counts.total, "trained_parameters": counts.trained}
            facts = {
                "run_id": self.run.run_id,
                "checkpoint": name,
                "tables_in": self.run.table_versions,
                "versions": dict(self.run.versions),
                **sizes,
            }
            save_artefact(model, self.folder.model, recipe=self.recipe, facts=facts)
        self.folder.write_end(Ended(outcome, name, **sizes))
        self.reporter.close()
        self.say(f"{outcome}: {self.folder.model if outcome == 'done' else name}")

    def say(self, text: str) -> None:
        if self.reporter:
            self.reporter.say(text)


def saved_or_said(
    wait: Callable[[], None], write: Callable[[], None], say: Callable[[str], None], *, ends: bool
) -> None:
    """Wait for the last checkpoint and write another; say what failed.

    Where training `ends` with this one its failure is raised: the run would end without its steps.
    Raises CheckpointFailed.
    """
    try:
        wait()
    except CheckpointFailed as e:
        say(f"{e}; {'it is saved once more' if ends else 'training goes on'}")
    try:
        write()
    except CheckpointFailed as e:
        if ends:
            raise
        say(f"{e}; training goes on")


def check_goes_on(path: Path, state: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    """Refuse a checkpoint after which other examples would follow than a run undisturbed has.

    `state` is what it says of its run, `hashes` the tables' contents by name. Raises DataRefused.
    """
    if state["tables"] != hashes:
        raise DataRefused(
            f"{path} was trained from other rows than {', '.join(hashes)} now have: a table was "
            "made anew; start a new run"
        )
    if state.get("feed_order") != ORDER and not state["ended"]:
        raise DataRefused(
            f"{path} was written by version {state['versions']['roundtrip']} of this project, "
            "which has examples in another order: go on with that version, or start a new run"
        )


def main(folder: str) -> int:
    """Train, and say in one line why not where that is no fault of the program."""
    told_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_stop.set())
    deepspeed.utils.logger.setLevel(logging.WARNING)
    transformers.logging.disable_progress_bar()
    try:
        Worker(RunFolder(folder), told_to_stop.is_set).train()
    except (UsageError, DataRefused, NotFinite, CheckpointFailed) as e:
        print(e, flush=True)
        if isinstance(e, UsageError):
            return EXIT_USAGE
        return EXIT_REFUSED if isinstance(e, DataRefused) else EXIT_FAILED
    except Exception:  # not left to the interpreter, whose end may wait for a thread for ever
        traceback.print_exc()
        return EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    # Ranks that fail leave threads of the process group waiting, which would keep them alive.
    code = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(code)

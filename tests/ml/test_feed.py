"""The feed: which examples come when, whoever asks; what becomes of them; what is refused."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from deltalake import DeltaTable

from ml.batch import IGNORED, Batch
from ml.feed import Feed, PinnedTable, Step, open_table
from ml.feed.texts import Texts
from ml.recipe import Data, Stage
from pipelines.errors import DataRefused, UsageError
from pipelines.figures.templates import Template
from tests.ml.made_tables import SIDE_PX, write_vqa

COUNT = 500


class _Bytes:
    """A tokenizer whose tokens are the text's bytes."""

    def __call__(self, texts: list[str], **_: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(text.encode()) for text in texts]}


@dataclass
class _Processor:
    tokenizer: Any = _Bytes()  # noqa: RUF009
    pad_id: int = 256
    eos_id: int = 257
    image_px: int = SIDE_PX

    def draw(self, content: bytes, square: np.ndarray) -> None:
        square[:] = simplejpeg.decode_jpeg(content)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PinnedTable:
    folder = tmp_path_factory.mktemp("gold") / "vqa_examples"
    write_vqa(folder, COUNT)
    return open_table(folder)


def stage(**fields: Any) -> Stage:
    known = {"steps": 60, "global_batch": 24, "micro_batch": 4, "template": "plain"}
    return Stage.model_validate({"name": "s", "data": "vqa", **known, **fields})


def feed(table: PinnedTable, of: Stage | None = None, **fields: Any) -> Feed:
    known: dict[str, Any] = {"data": Data(), "processor": _Processor(), "seed": 3}
    return Feed(table, stage=of or stage(), **known | fields)


def ids_of(step: Step) -> list[int]:
    return [i for batch in step.batches for i in batch.example_ids]


def test_every_example_comes_once_an_epoch_in_another_order_each_time(table: PinnedTable) -> None:
    # 400 examples are 16 batches and two thirds of one: three epochs are 50 batches.
    steps = [ids_of(step) for step in feed(table, stage(steps=50))]
    trained = {i for i in range(COUNT) if i % 10 < 8}
    ids = [i for step in steps for i in step]
    assert Counter(ids) == dict.fromkeys(trained, 3)
    assert set(ids[: 17 * 24]) == trained
    assert len(set(ids[: 16 * 24])) == 16 * 24
    assert len({tuple(sorted(step)) for step in steps}) == 50
    assert [ids_of(step) for step in feed(table, stage(steps=50))] == steps
    assert [ids_of(step) for step in feed(table, stage(steps=50), seed=4)] != steps


@pytest.mark.parametrize("world", [2, 3, 4, 8])
def test_global_batches_are_the_same_in_a_world_of_any_size(table: PinnedTable, world: int) -> None:
    alone = [set(ids_of(step)) for step in feed(table)]
    ranks = [list(feed(table, rank=rank, world=world)) for rank in range(world)]
    counts = {len(step.batches) for steps in ranks for step in steps}
    assert len(counts) == 1  # as many micro-batches on each rank
    for number, of_ranks in enumerate(zip(*ranks, strict=True)):
        together = [i for step in of_ranks for i in ids_of(step)]
        assert len(together) == 24
        assert set(together) == alone[number]
        assert max(len(b.example_ids) for step in of_ranks for b in step.batches) <= 4


# Epochs end within batches 17, 34 and 50: the first three starts are in the middle of one.
@pytest.mark.parametrize(("done", "world"), [(7, 1), (16, 2), (23, 3), (34, 4), (50, 8)])
def test_goes_on_with_the_next_example(table: PinnedTable, done: int, world: int) -> None:
    whole = [set(ids_of(step)) for step in feed(table)]
    ranks = [feed(table, rank=r, world=world, start=done * 24) for r in range(world)]
    rest = [set().union(*map(ids_of, steps)) for steps in zip(*ranks, strict=True)]
    assert rest == whole[done:]
    (first, *_) = feed(table, start=done * 24)
    assert (first.number, first.examples_after) == (done + 1, (done + 1) * 24)
    assert list(feed(table, start=60 * 24)) == []


def test_a_batch_mixes_row_groups_and_short_texts_of_any_length(table: PinnedTable) -> None:
    batches = [b for step in feed(table, stage(micro_batch=24)) for b in step.batches]
    files = [len({i % 4 for i in batch.example_ids}) for batch in batches]
    lengths = [len({i % 7 for i in batch.example_ids}) for batch in batches]
    assert min(files) >= 3
    assert min(lengths) >= 5  # of 7; sorted by length it would be 1 or 2


def test_longer_texts_are_batched_by_length(tmp_path: Path) -> None:
    write_vqa(tmp_path / "vqa_examples", COUNT, words=20)
    of = stage(micro_batch=24, max_tokens=1000)
    batches = [b for step in feed(open_table(tmp_path / "vqa_examples"), of) for b in step.batches]
    padded = sum(b.attention_mask.numel() for b in batches) / sum(b.tokens for b in batches)
    assert padded < 1.12  # 1.7 where batches are made without regard to length


def test_what_an_example_becomes(table: PinnedTable) -> None:
    found: dict[int, tuple[Batch, int]] = {}
    for step in feed(table, data=Data(split_by="fold", fold=0), of=stage(steps=17)):
        for batch in step.batches:
            found |= {i: (batch, at) for at, i in enumerate(batch.example_ids)}
    assert all(i % 5 for i in found)  # fold 0 is for testing
    batch, at = found[19]
    assert not batch.has_image[at]
    assert batch.pixels[at].abs().max() == 0
    batch, at = found[13]
    assert batch.has_image[at]
    assert batch.pixels[at].float().mean() == pytest.approx(8 * 13, abs=5)
    text = bytes(i for i in batch.input_ids[at].tolist() if i < 256).decode()
    assert text == "why why why why why why why ?\nanswer 13"
    learnt = batch.labels[at][batch.labels[at] != IGNORED].tolist()
    assert learnt == [*b"answer 13", 257]
    assert batch.label_tokens == int((batch.labels != IGNORED).sum())


def test_validation_rows_come_once_in_order(table: PinnedTable) -> None:
    steps = list(feed(table, part="validation"))
    ids = [i for step in steps for i in ids_of(step)]
    assert sorted(ids) == [i for i in range(COUNT) if i % 10 == 8]
    two = [list(feed(table, part="validation", rank=r, world=2)) for r in range(2)]
    assert sorted(i for steps in two for s in steps for i in ids_of(s)) == sorted(ids)
    assert len(two[0]) == len(two[1]) == len(steps)
    assert steps[-1].examples_after == len(ids)
    # 50 rows in batches of 24: the last two go to two of eight ranks, the others run on nothing.
    eight = [list(feed(table, part="validation", rank=r, world=8)) for r in range(8)]
    assert sorted(i for steps in eight for s in steps for i in ids_of(s)) == sorted(ids)
    last = [of_rank[-1].batches for of_rank in eight]
    assert [len(batches) for batches in last] == [1] * 8
    assert sorted(len(b.input_ids) for (b,) in last) == [1] * 8
    assert sum(b.label_tokens == 0 for (b,) in last) == 6
    assert all(b.attention_mask.any() for (b,) in last)
    with pytest.raises(UsageError, match="folds have no validation"):
        feed(table, part="validation", data=Data(split_by="fold"))


def test_images_are_withheld_at_random_and_always_alike(table: PinnedTable) -> None:
    def shown(**fields: Any) -> list[bool]:
        steps = feed(table, stage(image_dropout=0.5, steps=16), **fields)
        return [bool(x) for s in steps for b in s.batches for x in b.has_image]

    once = shown()
    # Of those trained 8 in 9 have an image; every second of them is shown.
    assert 0.38 < np.mean(once) < 0.62
    assert shown() == once
    assert shown(seed=5) != once


def test_some_closed_questions_are_asked_of_another_image(table: PinnedTable) -> None:
    def shades(rank: int = 0, world: int = 1, **fields: Any) -> dict[tuple[int, int], float | None]:
        """Of each step and example the shade of its image, None where it has none."""
        steps = feed(table, stage(steps=16, **fields), rank=rank, world=world)
        return {
            (step.number, i): float(pixels.float().mean()) if has_image else None
            for step in steps
            for batch in step.batches
            for i, pixels, has_image in zip(
                batch.example_ids, batch.pixels, batch.has_image, strict=False
            )
        }

    own, shown = shades(), shades(closed_image_swap=0.5)
    assert own.keys() == shown.keys()
    other = {key for key in own if own[key] != shown[key]}
    closed = [key for key in own if key[1] % 2 == 0]
    assert other <= set(closed)
    assert 0.38 < len(other) / len(closed) < 0.58  # a few shades come twice
    for step, i in other:
        assert shown[step, i] in {shade for (number, _), shade in own.items() if number == step}
    ranks = [shades(r, 3, closed_image_swap=0.5) for r in range(3)]
    assert ranks[0] | ranks[1] | ranks[2] == shown
    every = shades(closed_image_swap=1.0)
    assert sum(own[key] != every[key] for key in closed) > 0.8 * len(closed)


def test_a_stage_can_learn_some_types_of_questions_alone(table: PinnedTable) -> None:
    planes = feed(table, stage(question_types=("plane",), steps=None, epochs=1))
    learnt = {i for step in planes for batch in step.batches for i in batch.example_ids}
    everything = feed(table, stage(steps=None, epochs=1))
    assert learnt
    assert all(i % 3 == 1 for i in learnt)
    assert 2.7 < everything.rows / planes.rows < 3.3
    with pytest.raises(UsageError, match="and question_type 'colour'"):
        feed(table, stage(question_types=("colour",)))


PLAIN = Template("vqa", "t", "{question}", "{answer}")


@pytest.mark.parametrize(
    ("question", "answer", "prompt", "learnt"),
    [
        ("12", "3", b"12", [*b"3", 257]),
        ("0123456789", "3", b"456789", [*b"3", 257]),  # the question's end is kept
        ("0123456789", "abcdefghij", b"6789", [*b"abcd"]),  # and no end of text is learnt
        ("", "3", b"", [*b"3", 257]),
    ],
)
def test_what_is_too_long_is_cut(
    question: str, answer: str, prompt: bytes, learnt: list[int]
) -> None:
    fields = {"question": question, "answer": answer}
    ((ids, asked),) = Texts(PLAIN, _Processor(), 8).tokens([1], [fields])
    assert ids[:asked] == (list(prompt) or [257])
    assert ids[asked:] == learnt


def test_a_deleted_version_a_missing_file_and_an_empty_selection(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 40)
    with pytest.raises(UsageError, match="no Delta table at"):
        open_table(tmp_path / "other")
    with pytest.raises(UsageError, match="has no version 99"):
        open_table(tmp_path / "t", 99)
    with pytest.raises(UsageError, match="no row for nothing by published_split"):
        feed(open_table(tmp_path / "t"), data=Data(split_by="published_split"), part="nothing")
    pinned = open_table(tmp_path / "t")
    (tmp_path / "t" / pinned.files[1].path).unlink()
    with pytest.raises(UsageError, match="VACUUM removes files"):
        feed(pinned)


def test_a_truncated_file_and_a_broken_image_are_named(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 40)
    pinned = open_table(tmp_path / "t")
    loader = feed(pinned)
    path = tmp_path / "t" / pinned.files[1].path
    content = path.read_bytes()
    middle = content.index(b"\xff\xd8\xff")
    path.write_bytes(content[:middle] + b"\0" * 400 + content[middle + 400 :])
    with pytest.raises((DataRefused, UsageError), match=pinned.files[1].path):
        list(loader)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=pinned.files[1].path):
        feed(pinned)


def test_versions_are_pinned_and_told_apart(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 40)
    then = open_table(tmp_path / "t")
    write_vqa(tmp_path / "t", 40)
    now = open_table(tmp_path / "t")
    assert (then.version, now.version) == (3, 7)
    assert then.content_hash == open_table(tmp_path / "t", 3).content_hash != now.content_hash
    assert feed(then).rows * 2 == feed(now).rows


def test_a_reader_that_stops_leaves_no_thread(table: PinnedTable) -> None:
    before = threading.active_count()
    for _ in islice(feed(table), 2):
        pass
    steps = iter(feed(table))
    next(steps)
    del steps
    assert threading.active_count() == before


def test_more_processes_than_examples_and_half_a_batch_are_refused(table: PinnedTable) -> None:
    with pytest.raises(UsageError, match="less than 32 processes"):
        feed(table, world=32)
    with pytest.raises(UsageError, match="no whole number of global batches"):
        feed(table, start=25)


def test_deleted_rows_do_not_come(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 200)
    DeltaTable(str(tmp_path / "t")).delete("example_id < 100")
    ids = {i for s in feed(open_table(tmp_path / "t")) for i in ids_of(s)}
    assert min(ids) == 100

"""From deliveries to training tables, on made figures whose truth is known."""

from __future__ import annotations

import json
import secrets
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from jobs import ingest_figures, make_figures, prepare_captions
from jobs.figure_stages import refuse_leaks, write_token_ids
from jobs.lake import Lake
from jobs.prepare_captions import STAGES
from jobs.run import EXIT_DONE, EXIT_USAGE, Run
from pipelines.errors import DataRefused
from pipelines.figures.tokenizers import tokenizer_sha256
from schemas import (
    FIGURE_GROUPS,
    FIGURE_IMAGES,
    FIGURES,
    IMAGE_CAPTIONS,
    IMAGE_CAPTIONS_REJECTED,
    TABLES,
    TOKEN_IDS,
    VLM_EXAMPLES,
    VQA_EXAMPLES,
    Table,
)
from tests.planted import NEEDED_TO_DRAW, planted_file
from tests.real_dicom import real_dicom

pytestmark = pytest.mark.slow

# Enough for every kind of dirt and every sort of copy.
FIGURES_MADE = 150
QUESTIONS_MADE = 6
SHARES_OF_DIRT = ("--dirty-share", "0.2", "--dirty-caption-share", "0.12", "--copy-share", "0.15")


@dataclass
class Prepared:
    """A lake with made figures in their training tables."""

    lake: Lake
    made: Path
    page: Path
    line: dict[str, Any]

    def run(self, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
        """prepare_captions once more: exit code and JSON line."""
        capsys.readouterr()
        arguments = ["--lake", self.lake.root, "--page", str(self.page), *more]
        code = prepare_captions.main(arguments)
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    def truth(self) -> dict[str, dict[str, Any]]:
        """What is known about the figures, by the names of their images without the ending."""
        (volume,) = (self.made / "truth").glob("*.parquet")
        rows = pq.read_table(volume).to_pylist()
        return {row["name"].rpartition(".")[0]: row for row in rows}

    def versions(self) -> dict[str, int | None]:
        return {table.name: self.lake.version(table) for table in STAGES}


def call(main: Callable[[Sequence[str]], int], *arguments: str | Path) -> None:
    assert main([str(a) for a in arguments]) == EXIT_DONE


@pytest.fixture(scope="module")
def prepared(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("figures")
    lake, made, page = folder / "lake", folder / "made", folder / "captions.html"
    counts = ("--figures", str(FIGURES_MADE), "--questions", str(QUESTIONS_MADE))
    call(make_figures.main, "--out", made, *counts, *SHARES_OF_DIRT)
    to = ("--lake", lake)
    call(ingest_figures.main, made / "figures", "--format", "webdataset", "--source", "made", *to)
    call(ingest_figures.main, made / "vqa", "--format", "vqa", "--source", "asked", *to)
    call(prepare_captions.main, "--page", page, *to)
    return Prepared(Lake(spark, str(lake)), made, page, {})


@pytest.mark.slow
def test_every_example_is_accounted_for_and_for_the_reason_that_is_true(
    prepared: Prepared,
) -> None:
    lake, truth = prepared.lake, prepared.truth()
    assert lake.read(FIGURES).count() == FIGURES_MADE + QUESTIONS_MADE
    names = lake.read(FIGURES).select("figure_id", F.element_at(F.split("record", "/"), -1))
    name_of = {row[0]: row[1] for row in names.collect()}
    kept = {row[0] for row in lake.read(IMAGE_CAPTIONS).select("figure_id").collect()}
    rejected = lake.read(IMAGE_CAPTIONS_REJECTED).select("figure_id", "reasons").collect()
    reasons: dict[str, set[str]] = {}
    for figure_id, why in rejected:
        reasons.setdefault(name_of[figure_id], set()).update(why)
    asked = {i for i, name in name_of.items() if name not in truth}
    assert len(asked) == QUESTIONS_MADE
    assert kept | {i for i, n in name_of.items() if n in reasons} | asked == set(name_of)

    lost = Counter[str]()
    for name, row in truth.items():
        why = reasons.get(name, set())
        expected = _REASONS_OF_IMAGES.get(row["image_dirt"]) or _REASONS_OF_CAPTIONS.get(
            row["caption_dirt"]
        )
        if expected:
            assert expected in why, (name, row["image_dirt"], row["caption_dirt"], why)
        elif row["copy_of"] is None:
            lost.update(why - {"duplicate"})
    assert not lost


# The others are mended, or are an image like any other.
_REASONS_OF_IMAGES = {
    "truncated": "truncated",
    "not_an_image": "not_an_image",
    "zero_bytes": "missing_image",  # no byte was delivered
    "missing_image": "missing_image",
    "decompression_bomb": "too_many_pixels",
    "one_pixel": "too_small",
    "blank": "blank",
}
_REASONS_OF_CAPTIONS = {
    "placeholder": "placeholder",
    "empty": "no_caption",
    "file_name": "file_name",
    "german": "not_english",
    "french": "not_english",
    "chinese": "not_english",
}


@pytest.mark.slow
def test_copies_are_found_and_nothing_leaks(prepared: Prepared) -> None:
    lake, truth = prepared.lake, prepared.truth()
    number_of = {row["number"]: name for name, row in truth.items()}
    examples = (
        lake.read(FIGURE_GROUPS)
        .where("part = 0")
        .join(lake.read(FIGURES).select("figure_id", "record"), "figure_id")
        .select(F.element_at(F.split("record", "/"), -1), "copies_id", "group_id", "split")
    )
    seen = {row[0]: tuple(row)[1:] for row in examples.collect()}
    sure = ("bytes", "re_encoded", "resized")  # hashes of the others may drift
    pairs = [
        (name, number_of[row["copy_of"]])
        for name, row in truth.items()
        if row["copy_of"] is not None
    ]
    whole = [(a, b) for a, b in pairs if a in seen and b in seen]
    assert len(whole) > 5
    for a, b in whole:
        if truth[a]["copy"] in sure:
            assert seen[a][0] == seen[b][0], (a, b, truth[a]["copy"])
            assert seen[a][1:] == seen[b][1:]
    for key in ("article_id", "patient_id"):
        splits: dict[str, set[str]] = {}
        for name, (_, _, split) in seen.items():
            if name in truth and truth[name].get(key):
                splits.setdefault(truth[name][key], set()).add(split)
        assert all(len(s) == 1 for s in splits.values())
    vlm, groups = lake.read(VLM_EXAMPLES), lake.read(FIGURE_GROUPS)
    near = groups.where("near_vqa").select("example_id")
    assert vlm.join(near, "example_id", "left_semi").isEmpty()
    asked = lake.read(VQA_EXAMPLES)
    assert asked.where("image IS NULL").isEmpty()
    assert asked.select("image_id").distinct().count() == QUESTIONS_MADE
    assert "made by a program, not real" in prepared.page.read_text()


@pytest.mark.slow
def test_again_changes_nothing_and_more_figures_change_no_split(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = prepared.lake
    before = prepared.versions()
    assert prepared.run(capsys)[0] == EXIT_DONE
    assert prepared.versions() == before

    def splits() -> dict[int, str]:
        rows = lake.read(FIGURE_GROUPS).select("example_id", "split").collect()
        return {row[0]: row[1] for row in rows}

    first = splits()
    images = lake.version(FIGURE_IMAGES)
    # The first of them are the figures that are there, from another source: copies of those.
    call(
        make_figures.main,
        "--out",
        tmp_path / "more",
        "--figures",
        "30",
        "--seed",
        "1",
        *SHARES_OF_DIRT,
    )
    where = ("--format", "webdataset", "--source", "more", "--lake", lake.root)
    call(ingest_figures.main, tmp_path / "more" / "figures", *where)
    code, line = prepared.run(capsys)
    assert code == EXIT_DONE
    now = splits()
    assert {i: now[i] for i in first} == first
    assert lake.version(FIGURE_IMAGES) == (images or 0) + 1  # only what is new was decoded
    source = lake.read(FIGURES).select("figure_id", "source")
    groups = lake.read(FIGURE_GROUPS).join(source, "figure_id")
    by_copies = groups.groupBy("copies_id").agg(F.collect_set("source").alias("sources"))
    alone = by_copies.where("sources = array('more')").count()
    assert alone <= groups.where("source = 'more'").count() / 10
    rows = line["rows"]
    assert rows["examples"] == rows["accepted"] + rows["rejected"] + rows["images_of_questions"]


def test_other_rules_are_refused_with_both_named(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    before = prepared.versions()
    code, line = prepared.run(capsys, "--longest-side-px", "256")
    assert code == EXIT_USAGE
    assert "--longest-side-px 512" in line["error"]
    assert "--longest-side-px 256" in line["error"]
    assert prepared.versions() == before


@pytest.mark.faults  # nothing is killed; a run over everything
def test_anew_under_other_rules_replaces_every_image_and_no_split(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    def splits() -> set[tuple[Any, ...]]:
        return {
            tuple(r)
            for r in prepared.lake.read(VQA_EXAMPLES).select("example_id", "split").collect()
        }

    before = splits()
    assert prepared.run(capsys, "--encoding", "png", "--anew")[0] == EXIT_DONE
    assert splits() == before
    for table in (VLM_EXAMPLES, VQA_EXAMPLES):
        images = prepared.lake.read(table).where("image IS NOT NULL")
        assert not images.isEmpty()
        assert images.where("NOT startswith(image, X'89504E47')").isEmpty()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--longest-side-px", "8"), "--longest-side-px 8: must be 32 to 4096"),
        (("--distance", "11"), "--distance 11: must be 0 to 10"),
        (("--portion", "0"), "--portion 0: must be 1 or more"),
        (("--shares", "0.5,0.6,0"), "are no shares"),
        (("--tokenizer", "nowhere"), "has no tokenizer.json"),
        (("--vqa-template", "shot"), "unknown template 'shot'; did you mean short?"),
    ],
)
def test_wrong_arguments(
    prepared: Prepared, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, line = prepared.run(capsys, *arguments)
    assert code == EXIT_USAGE
    assert said in line["error"]


def test_a_lake_without_figures(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    code = prepare_captions.main(["--lake", lake.root])
    assert code == EXIT_USAGE
    assert "run jobs/ingest_figures.py first" in capsys.readouterr().out


@pytest.mark.slow
def test_token_ids_of_both_training_tables_beside_those_of_another_tokenizer(
    prepared: Prepared, spark: SparkSession, tmp_path: Path
) -> None:
    lake = prepared.lake
    run = Run("test", Namespace(lake=lake.root, run_id="test"), spark)
    for name, words in (("few", ["Question"]), ("more", ["Question", "CT", "Axial"])):
        made = Tokenizer(WordLevel({w: i for i, w in enumerate(["?", *words])}, unk_token="?"))
        made.pre_tokenizer = Whitespace()
        (tmp_path / name).mkdir()
        made.save(str(tmp_path / name / "tokenizer.json"))
        write_token_ids(run, tmp_path / name, "question_answer")
    ids = lake.read(TOKEN_IDS)
    examples = lake.read(VLM_EXAMPLES).count() + lake.read(VQA_EXAMPLES).count()
    counts = ids.groupBy("tokenizer_sha256").count().collect()
    assert [r["count"] for r in counts] == [examples, examples]
    asked = lake.read(VQA_EXAMPLES).select("example_id").join(ids, "example_id")
    assert asked.where("ids[0] <> 1").isEmpty()  # each text begins with "Question"
    version = lake.version(TOKEN_IDS)
    write_token_ids(run, tmp_path / "few", "question_answer")
    assert lake.version(TOKEN_IDS) == version

    write_token_ids(run, tmp_path / "more", "short")  # questions alone have other texts now
    changed = lake.read(TOKEN_IDS).exceptAll(lake.read(TOKEN_IDS, version))
    assert changed.count() == lake.read(VQA_EXAMPLES).count()
    assert changed.where(F.col("tokenizer_sha256") != tokenizer_sha256(tmp_path / "more")).isEmpty()


@pytest.mark.slow
def test_a_split_that_leaks_is_refused_before_the_training_tables_change(
    prepared: Prepared, spark: SparkSession
) -> None:
    lake = prepared.lake
    run = Run("test", Namespace(lake=lake.root, run_id="test"), spark)
    refuse_leaks(run)
    there = lake.read(FIGURE_GROUPS).localCheckpoint()
    by_id = F.when(F.col("example_id") % 2 == 0, "test").otherwise("train")
    lake.replace(FIGURE_GROUPS, there.withColumn("split", by_id), "true")
    try:
        with pytest.raises(DataRefused, match=r"groups of figures: in_two_splits is .*"):
            refuse_leaks(run)
    finally:
        lake.replace(FIGURE_GROUPS, there, "true")


@pytest.mark.slow
def test_no_identifier_of_a_patient_leaves_bronze(
    lake: Lake,
    tmp_path: Path,
    shared_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROUNDTRIP_PATIENT_KEY", secrets.token_hex(32))
    archive = tmp_path / "ZQ77777X^JOHN"
    archive.mkdir()
    planted = []
    for name in ("CT_small.dcm", "MR_small.dcm", "US1_J2KR.dcm"):
        content, plant = planted_file(real_dicom(shared_data, name), keep=NEEDED_TO_DRAW)
        (archive / f"ZQ77778X-{name}").write_bytes(content)
        planted.append(plant)
    where = ["--lake", lake.root]
    archived = [str(archive), "--format", "dicom", "--source", "hospital"]
    assert ingest_figures.main([*archived, *where]) == EXIT_DONE
    page = tmp_path / "captions.html"
    assert prepare_captions.main([*where, "--page", str(page)]) == EXIT_DONE
    assert ingest_figures.main([str(archive / "gone"), *archived[1:], *where]) == EXIT_USAGE
    capsys.readouterr()

    assert not lake.read(FIGURE_IMAGES).where("image IS NOT NULL").isEmpty()
    texts = [page.read_bytes()]
    for table in TABLES:
        if not table.name.startswith("bronze.") and lake.exists(table):
            texts += [_everything(lake, table)]
    for text in texts:
        assert b"ZQ7777" not in text
        for plant in planted:
            assert not plant.found_in(text)


def _everything(lake: Lake, table: Table) -> bytes:
    """All values of a table, bytes of images as they are."""
    rows = lake.read(table).collect()
    return b"\n".join(
        bytes(v) if isinstance(v, bytearray) else repr(v).encode() for row in rows for v in row
    )

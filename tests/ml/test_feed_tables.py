"""The feed on tables as they are in a lake: written by Spark, remote, grown by a column."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.lake import Lake
from jobs.session import settings
from ml.feed import Feed, PinnedTable, open_table
from ml.feed.encoded import EncodedExamples
from ml.feed.index import index_of
from ml.feed.pages import Places
from ml.models import Processor
from ml.recipe import Data, Encoder, Stage
from pipelines.errors import DataRefused, UsageError
from schemas import VQA_EXAMPLES
from schemas.frames import frame_of
from tests.ml.made_tables import square, write_vqa
from tests.ml.object_store import BUCKET, bucket_of
from tests.ml.tiny_models import tiny_tokenizer

COLUMNS = ("question", "answer")


def images_of(table: PinnedTable, steps: int, **fields: Any) -> dict[int, bytes | None]:
    """Images of the training rows by example."""
    with ThreadPoolExecutor(2) as readers:
        index = index_of(table, Data(), "train")
        examples = EncodedExamples(table, index, COLUMNS, readers, seed=1, global_batch=8, **fields)
        return {
            i: None if image is None else bytes(image)
            for step in examples.read(0, steps)
            for i, image in zip(step.example_ids, step.images, strict=True)
        }


def _question(i: int) -> list[Any]:
    known = {
        "example_id": i,
        "image": None if i % 7 == 0 else square(i % 256) + np.random.default_rng(i).bytes(3000),
        "question": f"{i}?",
        "answer": str(i),
        "closed": False,
        "language": "en",
        "source": "made",
        "split": "train",
        "fold": i % 5,
        "group_id": i,
        "order_key": i,
    }
    return [known.get(column.name) for column in VQA_EXAMPLES.columns]


def test_a_table_of_spark_with_deleted_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = frame_of(lake.spark, [_question(i) for i in range(2000)], VQA_EXAMPLES.struct)
    lake.create(VQA_EXAMPLES, {"delta.enableDeletionVectors": "true"})
    # As prepare_captions: row groups of few rows.
    small = {"parquet.block.size": "262144", "parquet.block.size.row.check.min": "10"}
    with settings(lake.spark, small):
        lake.append(VQA_EXAMPLES, rows.repartitionByRange(2, "example_id"))
    lake.spark.sql(f"DELETE FROM delta.`{lake.path(VQA_EXAMPLES)}` WHERE example_id % 3 = 1")

    table = open_table(lake.path(VQA_EXAMPLES))
    assert sum(len(file.deleted) for file in table.files) == 667
    assert max(table.footer(n).num_row_groups for n in range(len(table.files))) > 3
    (column,) = table.columns(0, 0, ["image"])
    assert isinstance(column, Places)  # they are read where they lie
    alive = [i for i in range(2000) if i % 3 != 1]
    images = images_of(table, len(alive) // 8 + 1)
    assert sorted(images) == alive
    for i, image in images.items():
        assert (image is None) == (i % 7 == 0)
        assert image is None or image.startswith(square(i % 256))

    monkeypatch.setattr("ml.feed.store._OPEN_FILES", 1)
    few_open = open_table(lake.path(VQA_EXAMPLES))
    assert images_of(few_open, len(alive) // 8 + 1) == images
    first, second = ((few_open.columns(n, 0, ["image"])[0]) for n in range(2))
    assert isinstance(first, Places)
    assert isinstance(second, Places)
    gone = Path(lake.path(VQA_EXAMPLES)) / few_open.files[0].path
    gone.rename(gone.with_suffix(".away"))
    assert second.read(0, 4) == b"PAR1"
    with pytest.raises(UsageError, match=f"{gone.name} is not there any more: VACUUM"):
        first.read(0, 4)
    gone.with_suffix(".away").rename(gone)
    with pytest.raises(UsageError, match=f"{gone.name} cannot be read: it ends at byte"):
        first.read(few_open.files[0].bytes - 3, 4)

    lake.optimize(VQA_EXAMPLES)
    compacted = open_table(lake.path(VQA_EXAMPLES))
    assert compacted.content_hash != table.content_hash
    (column,) = compacted.columns(0, 0, ["image"])
    assert isinstance(column, Places)
    assert images_of(compacted, len(alive) // 8 + 1) == images
    assert images_of(open_table(lake.path(VQA_EXAMPLES), table.version), 20).keys() <= set(alive)


def test_a_remote_table_is_read_by_range_and_once(tmp_path: Path) -> None:
    write_vqa(tmp_path / "gold" / "vqa_examples", 400, side_px=200)
    cache = tmp_path / "cache"
    with bucket_of(tmp_path) as bucket:
        url = f"s3://{BUCKET}/gold/vqa_examples"
        options = bucket.storage_options

        def opened() -> PinnedTable:
            table = open_table(url, storage_options=options, cache_dir=cache)
            bucket.bytes_sent.clear()
            return table

        table = opened()
        size = sum(file.bytes for file in table.files)
        local = images_of(open_table(tmp_path / "gold" / "vqa_examples"), 40)
        # Training rows are in all row groups; a footer is looked for in a file's last 64 KiB.
        assert images_of(table, 40) == local
        assert sum(bucket.bytes_sent.values()) < size + len(table.files) * (64 << 10)
        # Two processes share the cache; none asks the store for a file again.
        assert images_of(opened(), 40) == local
        assert not bucket.bytes_sent
        # What is there of a file that is cut off is not taken for all of it.
        kept = sorted(cache.rglob("*.arrow"))
        for file in kept:
            file.write_bytes(file.read_bytes()[:-100])
        assert images_of(opened(), 40) == local
        assert sum(bucket.bytes_sent.values()) > size / 2

        gone = tmp_path / "gold" / "vqa_examples" / table.files[2].path
        gone.unlink()
        with pytest.raises(UsageError, match=f"{gone.name} is not there any more"):
            images_of(open_table(url, storage_options=options), 40)
    with pytest.raises(UsageError, match="cannot be read"):
        open_table(url, storage_options=options | {"timeout": "1s", "max_retries": "0"})


def test_a_rank_fetches_the_images_of_its_own_rows_only(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 400, side_px=200, group_rows=5)
    with bucket_of(tmp_path) as bucket:
        table = open_table(f"s3://{BUCKET}/t", storage_options=bucket.storage_options)
        size = sum(file.bytes for file in table.files)
        index_of(table, Data(), "train")  # which reads the footers
        bucket.bytes_sent.clear()
        # Two batches of eight rows of 80 row groups, and a quarter of each.
        images_of(table, 2, rank=1, world=4)
        assert sum(bucket.bytes_sent.values()) < size / 2


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 40)
    (tmp_path / "cache").write_text("a file")
    with bucket_of(tmp_path) as bucket:
        options = bucket.storage_options
        table = open_table(
            f"s3://{BUCKET}/t", storage_options=options, cache_dir=tmp_path / "cache"
        )
        with pytest.raises(UsageError, match="the cache cannot be written"):
            index_of(table, Data(), "train")


def test_files_older_than_a_column_have_null_in_it(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 40, files=2)
    with_language = pq.read_table(DeltaTable(str(tmp_path / "t")).file_uris()[0])
    with_language = with_language.append_column("language", pa.array(["en"] * 20))
    write_deltalake(str(tmp_path / "t"), with_language, mode="append", schema_mode="merge")
    table = open_table(tmp_path / "t")
    seen = [table.read_groups(n, 0, ["language"])["language"].to_pylist() for n in range(3)]
    assert sorted({str(x) for values in seen for x in values}) == ["None", "en"]
    with pytest.raises(UsageError, match="has no column speaker: it has example_id, image"):
        table.read_groups(0, 0, ["speaker"])


def test_tables_whose_files_name_columns_otherwise_are_refused(lake: Lake) -> None:
    lake.create(VQA_EXAMPLES, {"delta.columnMapping.mode": "name"})
    with pytest.raises(UsageError, match=r"delta\.columnMapping\.mode"):
        open_table(lake.path(VQA_EXAMPLES))
    rows = lake.spark.range(3).selectExpr("id", "id AS fold")
    rows.write.format("delta").partitionBy("fold").save(f"{lake.root}/parts")
    with pytest.raises(UsageError, match="is partitioned by fold"):
        open_table(f"{lake.root}/parts")


def test_a_file_that_goes_while_it_is_read_is_no_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vqa(tmp_path / "t", 40)
    encoder = Encoder(kind="cnn", image_px=8)
    processor = Processor(tiny_tokenizer(tmp_path / "llm"), encoder, tmp_path / "llm")
    stage = Stage.model_validate(
        {
            "name": "s",
            "data": "vqa",
            "template": "plain",
            "epochs": 1,
            "global_batch": 8,
            "micro_batch": 4,
        }
    )
    feed = Feed(open_table(tmp_path / "t"), stage=stage, data=Data(), processor=processor, seed=0)

    class Gone:
        def __bytes__(self) -> bytes:
            raise UsageError("the file is not there any more")

    monkeypatch.setattr("ml.feed.examples.Column.__getitem__", lambda column, row: Gone())
    monkeypatch.setattr("ml.feed.texts.Texts.tokens", lambda *_: [])
    with pytest.raises(UsageError, match=r"^the file is not there any more$"):
        next(iter(feed))


def test_real_images_become_batches(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "medical" / "vqa_rad" / "images"
    paths = sorted(folder.iterdir())[:40]
    ids = np.arange(len(paths))
    rows = {
        "example_id": ids,
        "image": pa.array([path.read_bytes() for path in paths], pa.binary()),
        "text": [f"image {i}" for i in ids],
        "split": ["train"] * len(ids),
    }
    write_deltalake(str(tmp_path / "t"), pa.table(rows))
    processor = Processor(
        tiny_tokenizer(tmp_path / "llm"), Encoder(kind="cnn", image_px=64), tmp_path / "llm"
    )
    stage = Stage.model_validate(
        {
            "name": "align",
            "data": "captions",
            "template": "describe",
            "epochs": 1,
            "global_batch": 8,
            "micro_batch": 4,
        }
    )

    def fed() -> Feed:
        table = open_table(tmp_path / "t")
        return Feed(table, stage=stage, data=Data(), processor=processor, seed=0)

    seen: set[int] = set()
    for step in fed():
        for batch in step.batches:
            seen.update(batch.example_ids)
            for i, pixels, labels in zip(
                batch.example_ids, batch.pixels, batch.labels, strict=True
            ):
                assert pixels.equal(processor.image(paths[i].read_bytes()))
                said = processor.tokenizer.decode(labels[labels >= 0])
                assert said == f"image {i}</s>"
    assert seen == set(range(40))

    rows["image"] = pa.array([b"GIF89a, cut off"] * len(ids), pa.binary())
    write_deltalake(str(tmp_path / "t"), pa.table(rows), mode="overwrite")
    with pytest.raises(DataRefused, match=r"at version 1: .*parquet, row group 0, row \d+: the im"):
        list(fed())


def test_the_feed_runs_without_spark() -> None:
    command = "import sys, ml.feed; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0

"""A rank that trains from a table in an object store, with its credentials in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml.recipe import load_recipe
from ml.training.runs import RunFolder, Source, TrainingRun
from tests.ml.made_tables import write_vqa
from tests.ml.object_store import BUCKET, bucket_of
from tests.ml.training_lake import INSTRUCT, tiny_recipe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_it_reads_each_image_over_the_network_once(tmp_path: Path) -> None:
    write_vqa(tmp_path / "bucket" / "vqa", 40)
    # Four passes over the 32 examples that are for training.
    recipe = load_recipe(str(tiny_recipe(tmp_path, "tiny", INSTRUCT, steps=16)))
    cache = tmp_path / "cache"
    folder = RunFolder(tmp_path / "run")
    table = Source("gold.vqa_examples", f"s3://{BUCKET}/vqa", 3)
    folder.write(TrainingRun("run", recipe, {"vqa": table}, 1, {}, feed_cache=str(cache)))
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    ranks |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"}
    with bucket_of(tmp_path / "bucket") as bucket:
        done = subprocess.run(
            [sys.executable, "-m", "ml.training.worker", str(folder.path)],
            cwd=ROOT,
            env=os.environ | ranks | bucket.storage_options | {"DS_ACCELERATOR": "cpu"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    ended = folder.read_end()
    assert ended is not None
    assert ended.outcome == "done"
    assert len(folder.metrics()[0]) == 16
    sizes = {
        f"vqa/{file.name}": file.stat().st_size
        for file in (tmp_path / "bucket" / "vqa").glob("*.parquet")
    }
    assert len(sizes) == 4
    for key, size in sizes.items():
        # The footer is read before the columns, and again as part of the file's end.
        assert 0 < bucket.bytes_sent[key] < 2 * size
    assert any(cache.rglob("*.arrow"))

"""make_figures end to end: shards and lists with the same figures, the truth beside them."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs.make_figures import main
from pipelines.figures.made import files
from pipelines.figures.made.figure import made_figures
from pipelines.figures.made.files import TRUTH, write_volume
from pipelines.figures.made.frame import figures
from pipelines.figures.made.plan import Order

pytestmark = pytest.mark.slow


def _line(capsys: pytest.CaptureFixture[str]) -> dict:
    line: dict = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


def _members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar}


def test_shards_and_lists_hold_the_same_figures_and_the_truth_fits(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--seed", "9", "--figures", "120", "--dirty-share", "0.2"]
    assert main(["--out", str(tmp_path / "tar"), *more, "--questions", "12"]) == 0
    line = _line(capsys)
    assert main(["--out", str(tmp_path / "list"), *more, "--format", "pmc-oa"]) == 0
    members = _members(tmp_path / "tar" / "figures" / "made_000000.tar")
    listed = (tmp_path / "list" / "figures" / "made_000000.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(text) for text in listed]
    assert len(records) == line["figures"] == 120
    images = tmp_path / "list" / "figures" / "images"
    for record in records:
        key = record["image"].rpartition(".")[0]
        assert json.loads(members[f"{key}.json"]) == record
        path = images / record["image"]
        assert members.get(record["image"]) == (path.read_bytes() if path.exists() else None)
    truth = pq.read_table(tmp_path / "tar" / "truth" / "made_000000.parquet")
    assert truth.schema.equals(TRUTH)
    assert truth["name"].to_pylist() == [record["image"] for record in records]
    dirt = Counter(x for x in truth["image_dirt"].to_pylist() if x)
    assert dict(dirt) == line["dirty_images_by_kind"]
    missing = dirt["missing_image"]
    assert missing > 0
    assert len(members) == 240 - missing
    assert "made, not real" in (tmp_path / "tar" / "README.txt").read_text("utf-8")

    asked = json.loads((tmp_path / "tar" / "vqa" / "VQA_RAD_Dataset_Public.json").read_text())
    assert line["questions"]["images"] == len({row["image_name"] for row in asked}) == 12
    for row in asked:
        with Image.open(tmp_path / "tar" / "vqa" / "images" / row["image_name"]) as image:
            image.load()


def test_the_first_figures_of_a_larger_run_are_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "VOLUME", 20)
    order = Order(seed=4)
    for count, folder in ((25, "few"), (60, "many")):
        for volume in range(files.volumes(count)):
            write_volume(order, volume, count, "webdataset", tmp_path / folder)
    few, many = (
        {k: v for shard in sorted((tmp_path / folder / "figures").iterdir())
         for k, v in _members(shard).items()}
        for folder in ("few", "many")
    )  # fmt: skip
    assert len(few) < len(many)
    assert few == dict(list(many.items())[: len(few)])
    first = [tmp_path / folder / "figures" / "made_000000.tar" for folder in ("few", "many")]
    assert first[0].read_bytes() == first[1].read_bytes()


def test_rows_on_spark_are_the_same_figures(spark: SparkSession) -> None:
    order = Order(seed=4)
    rows = figures(spark.range(0, 12, 1, 2), order).orderBy("number").collect()
    for row, figure in zip(rows, made_figures(order, 0, 12), strict=True):
        assert {k: bytes(v) if k == "image" and v is not None else v
                for k, v in row.asDict().items()} == vars(figure)  # fmt: skip


def test_a_volume_that_fails_leaves_nothing_that_looks_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add, seen = files._add, Counter[str]()

    def failing(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        seen["members"] += 1
        if seen["members"] == 30:
            raise OSError(28, "No space left on device")
        add(tar, name, data)

    monkeypatch.setattr(files, "_add", failing)
    with pytest.raises(OSError, match="No space"):
        write_volume(Order(), 0, 40, "webdataset", tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_another_command_does_not_mix_its_figures_into_a_folder(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--out", str(tmp_path), "--figures", "5"]
    assert main(few) == 0
    shard = (tmp_path / "figures" / "made_000000.tar").read_bytes()
    capsys.readouterr()
    assert main([*few, "--seed", "2"]) == 2
    assert "another folder" in _line(capsys)["error"]
    assert main(few) == 0
    assert (tmp_path / "figures" / "made_000000.tar").read_bytes() == shard


@pytest.mark.parametrize(
    "wrong",
    [["--figures", "0"], ["--copy-share", "2"], ["--seed", "-1"], ["--questions", "few"]],
)
def test_wrong_arguments_exit_2_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path / "x"), *wrong])
    assert stopped.value.code == 2
    assert "write" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--out", "s3://bucket/made"], "no folder"),
        (["--out", "x", "--copy-share", "0.7", "--dirty-share", "0.6"], "exceed 1"),
    ],
)
def test_what_does_not_go_together_exits_2_too(
    capsys: pytest.CaptureFixture[str], wrong: list[str], says: str
) -> None:
    assert main(wrong) == 2
    assert says in _line(capsys)["error"]


def test_a_folder_that_cannot_be_written_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert main(["--out", str(tmp_path / "file" / "below")]) == 1
    assert _line(capsys)["outcome"] == "failed"

"""Starting ranks from Spark, here and as a barrier stage of the tests' own session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ml.training.guard import Outcome
from ml.training.launch import (
    Mode,
    Place,
    check_cluster,
    launch,
    places,
    refusal_by_settings,
)
from ml.training.rank_failure import RankFailed, raise_failure
from pipelines.errors import UsageError
from tests.ml.ranks import IMPORTABLE, PROGRAM, alive, told

MODES = ("local", "cluster")


@pytest.mark.parametrize("mode", MODES)
def test_each_rank_knows_its_place(
    spark: SparkSession, tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    args = ["environment", str(tmp_path)]
    launch(spark, PROGRAM, args, processes=2, mode=mode, env={**IMPORTABLE, "GIVEN": "here"})
    ranks = told(tmp_path, 2)
    for number, rank in enumerate(ranks):
        expected = {
            "RANK": str(number),
            "WORLD_SIZE": "2",
            "LOCAL_RANK": str(number),
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": ranks[0]["MASTER_ADDR"],
            "MASTER_PORT": ranks[0]["MASTER_PORT"],
            "ROUNDTRIP_ATTEMPT": "0",
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1"
            if mode == "cluster"
            else str(max(1, len(os.sched_getaffinity(0)) // 2)),
            "HF_HUB_OFFLINE": "1",
            "GIVEN": "here",
        }
        assert {name: rank.get(name) for name in expected} == expected
        assert not [name for name in rank if name.startswith(("PYSPARK_", "SPARK_"))]
    assert "RANK" not in os.environ


@pytest.mark.parametrize("mode", MODES)
def test_the_job_fails_with_the_ranks_exit_code(
    spark: SparkSession, tmp_path: Path, mode: Mode
) -> None:
    args = ["fail", str(tmp_path), "1", "exit"]
    with pytest.raises(RankFailed) as failed:
        launch(spark, PROGRAM, args, processes=2, mode=mode, env=IMPORTABLE)
    assert (failed.value.rank, failed.value.exit_code) == (1, 7)
    assert str(failed.value) == "rank 1 ended with exit code 7: it printed nothing"
    assert not alive(t["pid"] for t in told(tmp_path, 2))
    assert not (tmp_path / "attempt1-rank0.json").exists()  # the program's error is not tried again


@pytest.mark.parametrize("mode", MODES)
def test_the_job_fails_with_the_ranks_error(
    spark: SparkSession, tmp_path: Path, mode: Mode, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["fail", str(tmp_path), "0", "table"]
    with pytest.raises(RankFailed) as failed:
        launch(spark, PROGRAM, args, processes=2, mode=mode, env=IMPORTABLE)
    first, *rest = str(failed.value).splitlines()
    assert first == "rank 0 ended with exit code 1: ValueError: no such table"
    assert rest[0] == "Traceback (most recent call last):"
    assert 'in fail\n    raise ValueError(f"no such {how}")' in failed.value.error
    assert capfd.readouterr().err.count("[rank 0] ValueError: no such table") == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_ranks_are_a_process_group(spark: SparkSession, tmp_path: Path, mode: Mode) -> None:
    args = ["all_reduce", str(tmp_path)]
    launch(spark, PROGRAM, args, processes=2, mode=mode, env=IMPORTABLE)
    assert told(tmp_path, 2) == [{"sum": 11.0}] * 2


def test_missing_slots_are_named(spark: SparkSession) -> None:
    with pytest.raises(UsageError) as refused:
        launch(spark, PROGRAM, [], processes=5, mode="cluster")
    said = str(refused.value)
    assert "5 processes need 5 slots at once" in said
    assert "have 2" in said
    assert "3 are missing" in said
    check_cluster(spark, 2, use_gpu=False)


def test_gpus_that_spark_does_not_know_are_named(spark: SparkSession) -> None:
    with pytest.raises(UsageError, match=r"the driver has 0: .*spark.driver.resource.gpu.amount=2"):
        launch(spark, PROGRAM, [], processes=2, use_gpu=True)
    with pytest.raises(UsageError, match=r"spark.task.resource.gpu.amount is not set"):
        launch(spark, PROGRAM, [], processes=2, mode="cluster", use_gpu=True)


def test_settings_that_rule_out_a_barrier_stage_are_named() -> None:
    dynamic = {"spark.dynamicAllocation.enabled": "true"}
    assert "dynamicAllocation.enabled=false" in str(refusal_by_settings(dynamic, 2, False))
    for amount in ("2", "0.5"):
        gpus = {"spark.task.resource.gpu.amount": amount}
        assert f"amount is {amount}" in str(refusal_by_settings(gpus, 2, True))
        assert refusal_by_settings(gpus, 2, False) is None
    assert refusal_by_settings({"spark.task.resource.gpu.amount": "1"}, 2, True) is None
    assert refusal_by_settings({}, 2, False) is None


def test_local_ranks_count_on_each_host() -> None:
    found = places(["a:1", "b:1", "a:2", "a:1"], [None] * 4)
    assert found == [Place(0, 3, ""), Place(0, 1, ""), Place(1, 3, ""), Place(2, 3, "")]


def test_the_local_rank_is_the_position_of_the_own_gpu() -> None:
    found = places(["a:1", "a:1", "b:1", "a:2"], ["3", "0", "0", "1"])
    assert [p.visible_gpus for p in found] == ["3,0,1", "3,0,1", "0", "3,0,1"]
    own = [str(p.visible_gpus).split(",")[p.local_rank] for p in found]
    assert own == ["3", "0", "0", "1"]


def test_containers_of_one_host_are_machines_of_their_own() -> None:
    found = places(["a:1", "a:2", "a:2"], ["0", "0", "1"])
    assert found == [Place(0, 1, "0"), Place(0, 2, "0,1"), Place(1, 2, "0,1")]
    assert places(["[::1]:1", "[::1]:2"], [None, None])[1] == Place(1, 2, "")


def test_the_first_failure_is_the_one_that_is_told() -> None:
    def outcome(rank: int, code: int, at: float, stopped: bool = False) -> Outcome:
        return Outcome(rank, code, f"of {rank}", at, stopped, True)

    raise_failure([outcome(0, 0, 1.0), outcome(1, 0, 2.0)])
    with pytest.raises(RankFailed, match=r"^rank 2 ended with exit code 3: of 2"):
        raise_failure([outcome(0, 1, 9.0), outcome(1, -15, 1.0, True), outcome(2, 3, 8.0)])
    with pytest.raises(RankFailed, match=r"^rank 1 was killed by signal 9 \(SIGKILL, as Linux"):
        raise_failure([outcome(0, 1, 8.0), outcome(1, -9, 8.0)])
    with pytest.raises(RankFailed, match=r"^rank 1 ended with exit code 2: of 1"):
        raise_failure([outcome(0, 1, 1.0), outcome(1, 2, 2.0), outcome(2, -6, 1.5)])
    with pytest.raises(RuntimeError, match="from outside"):
        raise_failure([outcome(0, -15, 1.0, True), outcome(1, 0, 2.0)])

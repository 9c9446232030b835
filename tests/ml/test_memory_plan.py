"""What fits, the cheapest set-up that does, its largest micro-batch, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml.memory import plan
from ml.memory.activations import Activations
from ml.memory.counts import Counts, Part
from ml.memory.footprint import PROCESS_BYTES, Devices, Setup, StagePlan
from ml.memory.plan import Plan, device_memory, plan_of, plan_of_size
from ml.memory.search import by_cost, cheapest, compared, largest_micro_batch
from ml.memory.states import Precision, buckets_of
from ml.recipe import Recipe, Stage
from tests.ml.tiny_models import tiny_model

GB = 10**9
PARAMETERS, PIECES = 1 * GB, 1000  # 16 GB without ZeRO
AN_EXAMPLE = 4 * GB  # of activations; a tenth with checkpointing


class Made:
    """A model in numbers: what a subject says of itself."""

    def __init__(self, trained: int = PARAMETERS, frozen: int = 0) -> None:
        size = PARAMETERS // PIECES
        parts = (Part("llm", trained, frozen, 0),)
        groups = ((size,) * (trained // size),)
        self.counts = Counts(parts, (size,) * PIECES, groups, size, 0)

    def activations(
        self, micro_batch: int, checkpointing: bool, *, zero_3: bool = False
    ) -> Activations:
        most = micro_batch * AN_EXAMPLE // (10 if checkpointing else 1)
        gradients = 2 * self.counts.trained
        return Activations(most, most // 2, ((0, most), (gradients, 0)))


def stage(
    memory: float,
    *,
    ranks: int = 4,
    given: Setup = Setup(0, 4, False),  # noqa: B008  # it is frozen
    can_lora: bool = False,
    cpu: bool = False,
    rank_batch: int = 8,
    precision: Precision = "bf16",
    host: float | None = None,
    **changes: Any,
) -> StagePlan:
    """A stage of `Made` on ranks that may fill so many GB each."""
    size = round(memory * GB) if cpu else round(memory * GB / 0.9)

    def subject(lora: bool) -> Any:
        return Made(PARAMETERS // 100, PARAMETERS) if lora else Made()

    return StagePlan(
        "align",
        subject,
        given=given,
        precision=precision,
        devices=Devices(ranks, size, cpu, None if host is None else round(host * GB)),
        rank_batch=rank_batch,
        micro_batches=[1, 2, 4, 8],
        loader=0,
        can_lora=can_lora,
        **changes,
    )


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (33, Setup(0, 4, False)),  # all of it: nothing is given up
        (24, Setup(1, 4, False)),
        (22, Setup(2, 4, False)),
        (9, Setup(1, 4, True)),  # a third more computation
        (7.5, Setup(2, 4, True)),
        (6, Setup(3, 4, True)),  # half more communication
        (5.7, Setup(3, 2, True)),
        (4, Setup(2, 4, True, "cpu")),  # the bus
        (2.5, Setup(3, 4, True, "cpu")),
        (2, Setup(3, 4, True, "cpu", "cpu")),
        (1.3, Setup(3, 1, True, "cpu")),
        (0.8, Setup(3, 1, True, "cpu", "cpu")),
    ],
)
def test_the_cheapest_set_up_gives_up_least(memory: float, expected: Setup) -> None:
    found = cheapest(stage(memory))
    assert found is not None
    assert found.setup == expected


def test_lora_is_the_last_resort_and_only_where_there_is_something_to_adapt() -> None:
    rooms = stage(0.2, can_lora=True), stage(0.2)
    assert [setup.lora for setup in by_cost(rooms[0])] == sorted(s.lora for s in by_cost(rooms[0]))
    assert not any(setup.lora for setup in by_cost(rooms[1]))
    assert cheapest(rooms[1]) is None
    assert cheapest(rooms[0]) is None
    adapted = stage(4.5, ranks=1, can_lora=True)
    found = cheapest(adapted)
    assert found is not None
    assert found.peak <= adapted.devices.room


def test_no_set_up_has_its_optimiser_on_nvme_which_recipes_may_not() -> None:
    setups = list(by_cost(stage(0.2, can_lora=True)))
    assert {setup.offload_optimizer for setup in setups} == {"none", "cpu"}
    assert {setup.offload_parameters for setup in setups} == {"none", "cpu"}


def test_the_largest_micro_batch_is_the_largest_that_fits() -> None:
    room = stage(22)
    setup = Setup(2, 4, False)
    assert largest_micro_batch(room, setup) == 4
    assert room.fits(room.footprint(replace(setup, micro_batch=4)))
    assert not room.fits(room.footprint(replace(setup, micro_batch=8)))
    assert largest_micro_batch(room, replace(setup, checkpointing=True)) == 8
    assert largest_micro_batch(stage(1), setup) is None


def test_a_model_is_not_run_for_what_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any, **kwargs: Any) -> Activations:
        raise AssertionError("it was run")

    monkeypatch.setattr(Made, "activations", run)
    assert cheapest(stage(0.05)) is None
    assert cheapest(stage(2, cpu=True, kept=3 * GB)) is None


def test_more_is_needed_with_less_sharing() -> None:
    room = stage(30)
    peaks = [room.footprint(Setup(n, 4, False)).peak for n in range(4)]
    assert peaks == sorted(peaks, reverse=True)
    assert room.footprint(Setup(2, 4, True)).peak < peaks[2]
    assert room.footprint(Setup(3, 4, True, "cpu")).peak < peaks[3]


def test_a_table_compares_each_stage_offload_and_lora() -> None:
    names = [f.setup.sharding for f in compared(stage(30, can_lora=True)) if f.setup.checkpointing]
    assert names == [
        "ZeRO-0",
        "ZeRO-1",
        "ZeRO-2",
        "ZeRO-3",
        "ZeRO-2, optimiser on cpu",
        "ZeRO-3, optimiser on cpu",
        "ZeRO-3, optimiser on cpu, parameters on cpu",
        "ZeRO-0, LoRA",
        "ZeRO-2, LoRA",
        "ZeRO-3, LoRA",
    ]


def test_peaks_add_up_what_is_there_at_a_time() -> None:
    """Stage 2 with one micro-batch: in the passes, and in the step."""
    found = stage(30, rank_batch=4).footprint(Setup(2, 4, False))
    states = found.states
    always = states.weights + states.masters + states.moments
    assert found.backward == always + states.buckets + 4 * AN_EXAMPLE
    assert found.step == always + states.gradients + found.stepping
    again = stage(30, rank_batch=8).footprint(Setup(2, 4, False))  # two micro-batches
    assert again.backward == found.backward + states.gradients


def test_stage_1_has_all_gradients_at_a_time_on_a_cpu() -> None:
    """They are reduced after the backward pass there, and beside it on a GPU."""
    for cpu, gradients in ((True, 2.0), (False, 0.0)):
        room = stage(30, cpu=cpu, rank_batch=1)
        found = room.footprint(Setup(1, 1, True))
        states = found.states
        always = states.weights + states.masters + states.moments + states.buckets
        assert found.backward == always + gradients * PARAMETERS + states.gradients


def test_one_rank_without_zero_has_no_copy_of_its_gradients() -> None:
    """Ranks copy 5e8 of them at a time to reduce them; fp32 adds nothing in the step."""
    for ranks, copied in ((1, 0), (2, 4 * 500_000_000)):
        room = stage(30, ranks=ranks, rank_batch=1, precision="fp32")
        found = room.footprint(Setup(0, 1, True))
        states = found.states
        always = states.weights + states.moments
        assert found.backward == always + 4 * PARAMETERS + copied


def test_gradients_too_large_for_a_bucket_stay_in_stage_1() -> None:
    room = stage(30, rank_batch=1)
    counts = room.counts()
    assert buckets_of(counts).reduce == 50_000_000
    large = replace(counts, groups=((100_000_000,) * 10,))
    room._subject(False).counts = large
    found = room.footprint(Setup(1, 1, True))
    states = found.states
    always = states.weights + states.masters + states.moments + states.buckets
    assert found.backward == always + 2 * PARAMETERS + states.gradients


def test_a_checkpoint_takes_12_bytes_a_trained_parameter_on_disk() -> None:
    assert stage(30).footprint(Setup(3, 4, False)).disk == 12 * PARAMETERS
    adapted = stage(30, can_lora=True).footprint(Setup(2, 4, False, lora=True))
    assert adapted.disk == 12 * PARAMETERS // 100


def test_the_host_has_a_copy_for_checkpoints_or_first_the_model() -> None:
    on_cpu = stage(30, cpu=True, kept=7 * GB).footprint(Setup(2, 4, False))
    assert on_cpu.host == PROCESS_BYTES + 7 * GB + 12 * PARAMETERS // 4
    before = stage(30, ranks=64).footprint(Setup(2, 4, False))
    assert before.host == PROCESS_BYTES + 2 * PARAMETERS  # the model is made there
    offloaded = stage(30).footprint(Setup(3, 4, True, "cpu"))
    assert offloaded.host == PROCESS_BYTES + 3 * PARAMETERS + offloaded.states.host


def test_without_a_gpu_the_host_is_the_device() -> None:
    room = stage(30, cpu=True)
    found = room.footprint(Setup(0, 1, True))
    assert room.needed(found) == found.peak + found.host
    assert stage(30).needed(found) == found.peak


def test_what_is_offloaded_must_fit_on_the_host() -> None:
    """The optimiser's share on the host is 4 GB and more, so that LoRA alone is left."""
    unknown, known = stage(4, can_lora=True), stage(4, host=4, can_lora=True)
    found, other = cheapest(unknown), cheapest(known)
    assert found is not None
    assert found.setup.offload_optimizer == "cpu"
    assert found.host > 4 * GB
    assert other is not None
    assert (other.setup.offload_optimizer, other.setup.lora) == ("none", True)
    made = Plan("tiny", (stage(4, host=4, given=found.setup),))
    assert not made.fits
    assert f", and of the host {found.host / GB:.2f} GB of 4.00 GB, with" in made.nearest
    assert "GB of the host, which was not checked; its" in Plan("tiny", (unknown,)).table()
    assert "(4.0 GB to fill) with 4.0 GB of the host, bf16" in Plan("tiny", (known,)).table()
    assert "not checked" not in Plan("tiny", (known,)).table()


def test_a_refusal_names_what_is_needed_and_the_nearest_set_up() -> None:
    made = Plan("tiny", (stage(7.5), stage(33)))
    assert not made.fits
    needed = made.stages[0].needed(made.stages[0].footprint(Setup(0, 4, False))) / GB
    assert made.nearest == (
        f"align needs {needed:.2f} GB of 7.50 GB with ZeRO-0, micro-batch 4; "
        f"ZeRO-2, gradient checkpointing, micro-batch 4 fits with 7.30 GB"
    )
    assert Plan("tiny", (stage(33),)).fits
    assert Plan("tiny", (stage(33),)).nearest == ""
    assert Plan("tiny", (stage(0.1),)).nearest.endswith("no set-up fits on 4 of them")


def tiny_recipe(models: Path, **changes: Any) -> Recipe:
    fields = {
        "name": "align",
        "data": "captions",
        "template": "plain",
        "steps": 1,
        "global_batch": 8,
        "micro_batch": 2,
        "max_tokens": 16,
        "train": {"fusion": "full", "llm": "full"},
        "zero_stage": 2,
    }
    return Recipe(
        name="tiny",
        model=tiny_model(models, "llama"),
        stages=(Stage.model_validate(fields | changes),),
    )


def test_a_recipe_is_planned_as_it_is_trained(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, keep_frozen_bytes=12345)
    made = plan_of(recipe, processes=2, device_bytes=8 * GB)
    (only,) = made.stages
    assert made.fits
    assert only.given == Setup(2, 2, False)
    assert only.micro_batches == [4, 2, 1]  # what divides a rank's share of 8
    counts = only.counts()
    assert [part.name for part in counts.parts] == ["encoder", "fusion", "llm"]
    assert counts.parts[0].trained == 0
    assert counts.trained == sum(map(sum, counts.groups))
    assert len(counts.groups) == 4  # weights and vectors, of fusion and of the language model
    found = only.footprint(only.given)
    assert found.loader > 2 * 4 * 3 * 32 * 32 * 4
    assert 0 < only.counts(lora=True).trained < counts.trained
    assert found.host == PROCESS_BYTES + found.loader + 12345 + 6 * counts.trained


def test_a_micro_batch_is_what_a_rank_has_of_it(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, global_batch=64, micro_batch=16)
    (on_3,) = plan_of(recipe, processes=3, device_bytes=8 * GB).stages
    assert on_3.given.micro_batch == 11  # 22 examples, in two turns
    assert on_3.micro_batches == [16, 8, 4, 2, 1]  # what the recipe may say
    (on_8,) = plan_of(recipe, processes=8, device_bytes=8 * GB).stages
    assert on_8.given.micro_batch == 8


def test_memory_of_a_container_is_without_what_files_take_in_the_cache(tmp_path: Path) -> None:
    available = device_memory(cpu=True, cgroup=tmp_path)  # no container
    (tmp_path / "memory.current").write_text("900000000\n")
    (tmp_path / "memory.stat").write_text(
        "anon 300000000\ninactive_file 500000000\nactive_file 9\n"
    )
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory(cpu=True, cgroup=tmp_path) == pytest.approx(available, rel=0.2)
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert device_memory(cpu=True, cgroup=tmp_path) == 600_000_009
    assert device_memory(2, cpu=True, cgroup=tmp_path) == 300_000_004


def test_a_size_is_planned_as_a_language_model() -> None:
    made = plan_of_size(20_000_000, gpus=2, device_bytes=8 * GB, tokens=64)
    (only,) = made.stages
    assert only.counts().trained == 20_000_000
    held = made.to_dict()["stages"][0]["held_by_zero_stage_and_ranks"]
    assert held["0"]["1"] == 16 * 20_000_000
    assert held["3"]["2"] == 8 * 20_000_000
    assert only.can_lora is False


def test_ranks_share_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.torch.cuda, "is_available", lambda: False)
    assert device_memory(1) >= 2 * device_memory(3) > 0

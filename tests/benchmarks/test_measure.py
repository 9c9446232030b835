"""The protocol of a benchmark, on contenders that only pretend to work."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import measure as protocol
from benchmarks.contenders import Contender
from benchmarks.growth import exponent, foretold_s
from benchmarks.measure import Result, measure
from benchmarks.report import growth_table, known, table

NOWHERE = Path("nowhere.parquet")


def test_exponent_of_linear_and_of_everything_with_everything() -> None:
    assert exponent((100, 1.0), (300, 3.0)) == pytest.approx(1)
    assert exponent((100, 1.0), (300, 9.0)) == pytest.approx(2)


def test_growth_foretells_larger_sizes() -> None:
    assert foretold_s([], 100) == 0
    assert foretold_s([(100, 2.0)], 300) == pytest.approx(6)
    assert foretold_s([(100, 1.0), (200, 4.0)], 400) == pytest.approx(16)
    # 3 s instead of 2 for twice as much is mostly what is fixed: from there on linear.
    assert foretold_s([(200, 3.0), (100, 2.0)], 400) == pytest.approx(6)


def test_every_contender_once_a_round_and_only_the_count_is_timed() -> None:
    calls: list[str] = []

    def contender(name: str) -> Contender:
        def count(held: str, radius_m: float) -> int:
            calls.append(f"{name} counts {held} at {radius_m:g}")
            return 7

        return Contender(count, lambda path: f"{path.stem} of {name}")

    result = Result("1 real day", 100, 50)
    measure({"a": contender("a"), "b": contender("b")}, NOWHERE, result, {}, rounds=2, limit_s=1.0)
    once = ["a counts nowhere of a at 50", "b counts nowhere of b at 50"]
    assert calls == once * 3
    assert result.pairs == 7
    assert {name: len(s) for name, s in result.seconds.items()} == {"a": 2, "b": 2}


def test_what_is_slow_in_the_warm_up_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ONCE_S", -1.0)
    result = Result("1 real day", 100, 50)
    measure({"a": Contender(lambda *_: 7)}, NOWHERE, result, {}, rounds=5, limit_s=1.0)
    assert len(result.seconds["a"]) == 1
    assert "| once |" in table(result)


def test_what_would_take_too_long_is_foretold_and_not_run() -> None:
    result = Result("3 real days", 300, 50)
    slow = Contender(lambda *_: pytest.fail("it ran"))
    quick = Contender(lambda *_: 7)
    before = {"slow": [(100, 9.0)], "quick": [(100, 0.001)]}
    measure({"slow": slow, "quick": quick}, NOWHERE, result, before, rounds=1, limit_s=20.0)
    assert result.foretold_s == {"slow": 27}
    assert "| slow | not run | 27 s foretold | |" in table(result)
    assert known([result], 50)["slow"] == [(300, 27)]


def test_contenders_that_disagree_stop_the_run() -> None:
    field = {"a": Contender(lambda *_: 7), "b": Contender(lambda *_: 8)}
    with pytest.raises(RuntimeError, match="b counts 8 pairs on 1 real day at 50 m"):
        measure(field, NOWHERE, Result("1 real day", 1, 50), {}, rounds=1, limit_s=1.0)


def test_growth_is_told_between_sizes_of_one_density_only() -> None:
    one = Result("1 real day", 100, 50, 7, {"a": [1.0]})
    three = Result("3 real days", 300, 50, 21, {"a": [3.0], "new": [1.0]})
    made = Result("24 made days", 2400, 50, 168, {"a": [24.0]})
    assert "| a | 1.00 |" in growth_table([one, three], 50)
    assert "new" not in growth_table([one, three], 50)
    assert "| a | 1.00 |  |" in growth_table([one, three, made], 50)
    assert growth_table([one], 50) == ""

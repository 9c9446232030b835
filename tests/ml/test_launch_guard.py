"""The guard of the ranks: what ends them, and what is known of it after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml.training.channel import DriverChannel, Link
from ml.training.guard import Outcome, _Rank, guarded, last_words
from tests.ml.ranks import IMPORTABLE, PROGRAM, alive, gone, told


def run(
    *what: object,
    ranks: int = 2,
    may_go_on: Callable[[], bool] = lambda: True,
    channel: DriverChannel | None = None,
) -> list[Outcome]:
    """Run the rank program under a guard."""
    return guarded(
        [sys.executable, "-m", PROGRAM, *map(str, what)],
        [{"RANK": str(r)} for r in range(ranks)],
        {**os.environ, **IMPORTABLE, "WORLD_SIZE": str(ranks), "ROUNDTRIP_ATTEMPT": "0"},
        may_go_on=may_go_on,
        channel=None if channel is None else channel.address,
    )


@pytest.fixture
def shown() -> list[str]:
    return []


@pytest.fixture
def channel(shown: list[str]) -> Iterator[DriverChannel]:
    opened = DriverChannel("127.0.0.1", "127.0.0.1", shown.append)
    yield opened
    opened.close()


def test_a_failed_rank_is_reported_and_the_others_are_stopped(tmp_path: Path) -> None:
    begin = time.monotonic()
    waited, failed = run("fail", tmp_path, 1, "exit")
    assert (failed.rank, failed.exit_code, failed.stopped) == (1, 7, False)
    assert (waited.rank, waited.exit_code, waited.stopped) == (0, -signal.SIGTERM, True)
    assert time.monotonic() - begin < 20
    assert not alive(t["pid"] for t in told(tmp_path, 2))


def test_the_error_is_the_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    failed = run("fail", tmp_path, 0, "table", ranks=1)[0]
    assert failed.exit_code == 1
    assert failed.error.startswith("Traceback (most recent call last):")
    assert failed.error.endswith("ValueError: no such table")
    assert "[rank 0] ValueError: no such table" in capfd.readouterr().err.splitlines()


def test_last_words_are_the_last_traceback_or_the_last_lines() -> None:
    head = "Traceback (most recent call last):"
    lines = [head, "  first", "KeyError: 1", "Another exception:", head, "  second", "OSError: 2"]
    assert last_words(["before", *lines]) == "\n".join(lines[4:])
    assert last_words([str(i) for i in range(50)]) == "\n".join(str(i) for i in range(40, 50))
    assert last_words([]) == ""
    deep = last_words([head, *("  frame" for _ in range(500)), "RecursionError: deep"]).splitlines()
    assert (deep[0], deep[1], deep[-1], len(deep)) == (head, "  ...", "RecursionError: deep", 32)


@pytest.mark.parametrize("characters", [4_001, (1 << 20) + 10])
def test_no_character_of_a_line_is_lost(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    channel: DriverChannel,
    shown: list[str],
    characters: int,
) -> None:
    run("say", tmp_path, characters, ranks=1, channel=channel)
    long = "<" + "=" * (characters - 2) + ">"
    for lines in (capfd.readouterr().err.splitlines(), shown):
        lines = [line.removeprefix("[rank 0] ") for line in lines if line.startswith("[rank 0] ")]
        assert lines[-4:] == ["10 %", "20 %", "30 %", "no end"]
        assert "".join(lines[:-4]) == long


def test_who_ended_first_is_known_of_two_that_ended_between_looks() -> None:
    ranks = [
        _Rank(["sh", "-c", f"sleep {seconds}; exit 1"], {"RANK": str(number)})
        for number, seconds in enumerate((0.3, 0))
    ]
    for rank in ranks:
        rank.read(lambda *_: None)
    for rank in ranks:
        rank.process.wait()
    assert all(rank.has_ended() for rank in ranks)
    late, early = (rank.outcome().ended_at for rank in ranks)
    assert late - early > 0.1


def test_ranks_end_when_they_may_not_go_on(tmp_path: Path) -> None:
    def until_they_run() -> bool:
        return not (tmp_path / "attempt0-rank0.json").exists()

    assert all(o.stopped for o in run("wait", tmp_path, may_go_on=until_they_run))
    assert not alive(p for t in told(tmp_path, 2) for p in t.values())


def started_by_another(folder: Path, do: str = "wait") -> subprocess.Popen[bytes]:
    """A process that has started two ranks under a guard and waits for them."""
    program = (
        "from pathlib import Path; from tests.ml.test_launch_guard import run;"
        f"run({do!r}, Path({str(folder)!r}))"
    )
    return subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **IMPORTABLE})


@pytest.mark.parametrize("victim", ["parent", "guard"])
def test_no_rank_outlives_a_killed(victim: str, tmp_path: Path) -> None:
    parent = started_by_another(tmp_path)
    ranks = told(tmp_path, 2)
    guard = ranks[0]["guard"]
    os.kill(parent.pid if victim == "parent" else guard, signal.SIGKILL)
    # A guard that is killed cannot end what its ranks started; Linux ends the ranks.
    below = [r["pid"] for r in ranks] + [r["child"] for r in ranks if victim == "parent"]
    assert gone([guard, *below])
    assert parent.wait(10) != 0
    assert gone((r["child"] for r in ranks), within_s=0) == (victim == "parent")


def test_an_interrupt_ends_parent_guard_and_ranks(tmp_path: Path) -> None:
    parent = started_by_another(tmp_path)
    ranks = told(tmp_path, 2)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(10) != 0
    assert gone(p for r in ranks for p in r.values())


def test_an_interrupt_lets_ranks_end_by_themselves(tmp_path: Path) -> None:
    parent = started_by_another(tmp_path, "end_late")
    until = time.monotonic() + 30
    while len(list(tmp_path.glob("waits-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(30) != 0
    assert told(tmp_path, 2, within_s=0) == [{"ended": True}] * 2


def test_the_driver_hears_of_a_failure_and_stops_the_rest(
    tmp_path: Path, channel: DriverChannel
) -> None:
    other = Link(channel.address, 1)
    other.line("here")
    other.flush(5)
    assert not other.stop.is_set()
    (failed,) = run("fail", tmp_path, 0, "exit", ranks=1, channel=channel)
    assert (failed.exit_code, failed.stopped, failed.heard) == (7, False, True)
    assert other.stop.wait(5)
    late = Link(channel.address, 2)
    assert late.stop.wait(5)


def test_a_closed_channel_does_not_stop_training(
    tmp_path: Path, channel: DriverChannel, shown: list[str]
) -> None:
    def close_in_the_middle() -> None:
        while len(shown) < 3:
            time.sleep(0.02)
        channel.close()

    cut = threading.Thread(target=close_in_the_middle)
    cut.start()
    (outcome,) = run("tick", tmp_path, 20, ranks=1, channel=channel)
    cut.join()
    assert outcome.exit_code == 0
    assert told(tmp_path, 1) == [{"ticks": 20}]
    assert 3 <= len(shown) < 20


def test_a_failure_that_the_driver_cannot_hear_of_says_so(
    tmp_path: Path, channel: DriverChannel
) -> None:
    channel.close()
    (failed,) = run("fail", tmp_path, 0, "exit", ranks=1, channel=channel)
    assert (failed.exit_code, failed.heard) == (7, False)


def test_a_cut_connection_is_opened_anew_and_loses_nothing(
    tmp_path: Path, channel: DriverChannel, shown: list[str]
) -> None:
    link = Link(channel.address, 0)
    for i in range(10):
        link.line(str(i))
        if i % 4 == 2:
            link.flush(10)
            for connection in list(channel._guards):
                connection.shutdown(2)  # as a gateway's time-out does
            time.sleep(0.1)
    link.flush(20)
    until = time.monotonic() + 5
    while len(shown) < 10 and time.monotonic() < until:
        time.sleep(0.02)
    assert shown == [f"[rank 0] {i}" for i in range(10)]


def test_strangers_are_not_shown(channel: DriverChannel, shown: list[str]) -> None:
    stranger = Link(channel.address._replace(token="guessed"), 0)
    stranger.line("believe me")
    friend = Link(channel.address, 1)
    friend.line(json.dumps({"as": "printed"}))
    friend.flush(5)
    assert not stranger.failed(1.5)
    assert shown == ['[rank 1] {"as": "printed"}']

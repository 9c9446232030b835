"""How a rank failed: which of all came first, and in which words a user is told."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence

from ml.training.guard import Outcome
from pipelines.errors import EXIT_REFUSED, EXIT_USAGE

_UNHEARD = "a rank failed, and the driver could not be told:"


class RankFailed(RuntimeError):
    """A rank ended with an exit code that is not 0, and the training with it.

    `exit_code` is negative where a signal killed it. `error` is the last traceback that the rank
    printed, or its last lines.
    """

    def __init__(self, rank: int, exit_code: int, error: str) -> None:
        super().__init__(f"rank {rank} {_ending(exit_code)}: {_headline(error)}\n{error}".strip())
        self.rank = rank
        self.exit_code = exit_code
        self.error = error


def raise_failure(outcomes: Sequence[Outcome]) -> None:
    """Raise RankFailed for the rank that failed first; the failures after it are mostly its own.

    The peers of a rank that ends notice within milliseconds, less than clocks of hosts differ by.
    So one that said why it ends comes first, then one that a signal killed.
    """
    failed = [o for o in outcomes if o.exit_code and not o.stopped]
    if failed:
        said_why = (EXIT_USAGE, EXIT_REFUSED)
        first = min(
            failed, key=lambda o: (o.exit_code not in said_why, o.exit_code > 0, o.ended_at)
        )
        raise RankFailed(first.rank, first.exit_code, first.error)
    if any(o.exit_code for o in outcomes):
        raise RuntimeError("the ranks were stopped from outside, or Spark ended before them")


def unheard(outcome: Outcome) -> RuntimeError:
    """What a task raises whose rank failed where the driver cannot be told; see `failure_in`."""
    return RuntimeError(f"{_UNHEARD} {json.dumps(outcome)}")


def failure_in(text: str) -> RankFailed | None:
    """The failed rank that a task's own exception told of, in the text of Spark's."""
    found = re.search(rf"{_UNHEARD} (\[.*\])", text)
    if found is None:
        return None
    outcome = Outcome(*json.loads(found[1]))
    return RankFailed(outcome.rank, outcome.exit_code, outcome.error)


def _ending(exit_code: int) -> str:
    if exit_code > 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", as Linux does where memory runs out" if name == "SIGKILL" else ""
    return f"was killed by signal {-exit_code} ({name}{hint})"


def _headline(error: str) -> str:
    """The exception of a traceback; of anything else the last line."""
    lines = [line for line in error.splitlines() if line.strip()]
    if lines and lines[0].startswith("Traceback"):
        lines = [line for line in lines[1:] if not line.startswith(" ")][:1] or lines
    return lines[-1].strip() if lines else "it printed nothing"

"""Jobs run inside the test's own process, on the test's lake."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from jobs.lake import Lake

Job = Callable[..., tuple[int, dict[str, Any], str]]
"""Takes further arguments; gives the exit code, the JSON line and standard error."""


def job_on(
    lake: Lake,
    main: Callable[[Sequence[str]], int],
    capsys: pytest.CaptureFixture[str],
    *always: str,
) -> Job:
    """A job by its `main`, with --lake and whatever it always is to be given."""

    def run(*argv: str) -> tuple[int, dict[str, Any], str]:
        code = main([*always, *argv, "--lake", lake.root])
        said = capsys.readouterr()
        return code, json.loads(said.out.splitlines()[-1]), said.err

    return run

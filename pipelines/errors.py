"""The two ways in which a run can be refused; everything else is a failure."""

from __future__ import annotations

from pathlib import Path

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED = 0, 1, 2, 3
"""Exit codes of every job, and of the ranks of a training."""


class UsageError(ValueError):
    """What was asked for makes no sense or contradicts what is there: exit code 2."""


class DataRefused(ValueError):
    """The data must not be processed: exit code 3, and no table of data was changed.

    `page` is a file that shows why, where there is one.
    """

    def __init__(self, message: str, page: Path | None = None) -> None:
        super().__init__(message)
        self.page = page

"""The parser of every job. It imports no Spark, for jobs that need none."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from pipelines.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is a UsageError like any other, for the job to report."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)

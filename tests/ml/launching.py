"""A driver for the launcher's tests: `spark-submit launching.py MODE PROGRAMS WHAT`.

PROGRAMS is the folder of `rank_program`. WHAT is a JSON list of `{"args": [...], "cut": false}`,
each started in two ranks of it in turn, in one application; `cut`: the socket on which the driver
hears of the ranks is closed after the third line that they print. It prints a JSON list of how each
ended: null, or rank, exit code and the first line of the error.
"""

from __future__ import annotations

import json
import sys
from typing import Any, cast
from unittest.mock import patch

from jobs.session import open_session
from ml.training import launch as launching
from ml.training.channel import DriverChannel
from ml.training.rank_failure import RankFailed


class _Closing(DriverChannel):
    """A channel that closes after three lines."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._lines, self._shown = 0, self._show
        self._show = self._count

    def _count(self, line: str) -> None:
        self._shown(line)
        self._lines += 1
        if self._lines == 3:
            self.close()


def main(mode: launching.Mode, programs: str, what: str) -> None:
    spark = open_session("launching")
    spark.sparkContext.setLogLevel("ERROR")
    ended: list[tuple[int, int, str] | None] = []
    for one in json.loads(what):
        channel = _Closing if one.get("cut") else DriverChannel
        try:
            with patch.object(launching, "DriverChannel", channel):
                launching.launch(
                    spark,
                    "rank_program",
                    one["args"],
                    processes=2,
                    mode=mode,
                    env={"PYTHONPATH": programs},
                )
            ended.append(None)
        except RankFailed as e:
            ended.append((e.rank, e.exit_code, str(e).splitlines()[0]))
    print(json.dumps(ended), flush=True)
    spark.stop()


if __name__ == "__main__":
    main(cast(launching.Mode, sys.argv[1]), *sys.argv[2:])

"""A gold table whose rows were all found under one set of rules, and how far it is up to date.

Both are properties of the table. The rules let no run put pairs of another radius beside those that
are there. The mark names the version of silver.trips that the table holds all pairs of, so that a
run may look at what has changed since and at nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from jobs.arguments import duration, radii_m
from jobs.run import Run, log
from pipelines.errors import UsageError
from pipelines.trips.return_trips import RADII_M, WINDOW, micros
from pipelines.trips.return_trips.intervals import (
    ALWAYS,
    Interval,
    sql_within,
    touched_by,
)
from schemas import TRIPS, Table

RADII, WINDOW_S = "roundtrip.radii_m", "roundtrip.window_s"
MATCH, HOW = "roundtrip.match", "roundtrip.how"
# The run that is rewriting the whole table under other rules: until that is done, its rows and its
# rules may not belong together.
REWRITING = "roundtrip.rewriting"
# ID@VERSION of the silver.trips whose pairs are all here, and @ the version of this table that was
# so. A later commit of a run that had read earlier trips, noted as ID@VERSION, took pairs away.
UP_TO = "roundtrip.trips_version"

_NO_CHANGES = (
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_CHANGE_DATA_FILE_NOT_FOUND",
    "DELTA_CHANGE_TABLE_FEED_DISABLED",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_VERSION_NOT_CONTIGUOUS",
    "FileNotFoundException",
    "FAILED_READ_FILE",
)


def add_pair_rules(made: argparse.ArgumentParser) -> None:
    """--radii-m and --window, by which two trips are a pair: the arguments."""
    made.add_argument(
        "--radii-m",
        type=radii_m,
        default=RADII_M,
        metavar="R,R,...",
        help="radii in whole metres (default 50,100,150,200)",
    )
    made.add_argument(
        "--window",
        type=duration,
        default=WINDOW,
        metavar="TIME",
        help="a return begins sooner than this after the drop-off (default 8h)",
    )


def pair_rules(args: argparse.Namespace) -> dict[str, str]:
    """The same as properties of a table."""
    return {
        RADII: ",".join(map(str, args.radii_m)),
        WINDOW_S: seconds_of(args.window),
    }


def seconds_of(length: timedelta) -> str:
    """A length of time as a property: seconds, to the microsecond, such as 28800."""
    return f"{length.total_seconds():.6f}".rstrip("0").rstrip(".")


class PairTable:
    """One of the tables of pairs, as one run sees and writes it.

    Make it before silver.trips is read: what another run writes from then on is noticed.
    """

    def __init__(self, run: Run, table: Table, rules: Mapping[str, str]) -> None:
        self.run = run
        self.table = table
        self.rules = rules
        self._version = run.lake.version(table)  # as this run found it or left it
        self._properties = run.lake.properties(table) if self._version is not None else {}

    def check_rules(self) -> None:
        """Refuse to put pairs of other rules beside those in the table. Raises UsageError."""
        if self._version is None:
            return
        name = self.table.name
        if self._properties.get(REWRITING):
            raise UsageError(
                f"{name} is being rewritten, or a rewrite was cut off: run this job without "
                "--start, --end and --incremental to write the whole table"
            )
        stored = {k: self._properties.get(k, "") for k in self.rules}
        if stored != self.rules:
            raise UsageError(
                f"{name} holds pairs of {_said(stored)}; this run asks for {_said(self.rules)}: "
                "ask for the same, or leave out --start, --end and --incremental to rewrite the "
                "whole table"
            )

    def changed(self, window: timedelta) -> tuple[Sequence[Interval], str]:
        """The drop-offs whose pairs may have changed since the mark, and how that is known.

        Everything, where there is no mark or what has changed since cannot be told any more.
        """
        mark = self._properties.get(UP_TO)
        if not mark:
            return ALWAYS, f"{self.table.name} was not made from all trips yet"
        name, version = TRIPS.name, self.run.tables_in[TRIPS.name]
        table_id, then = self._held(mark)
        if table_id != self._trips_id or then > version:
            return ALWAYS, f"{name} is not the table any more that {self.table.name} was made from"
        if then == version:
            return (), f"{name} is still at version {version}"
        try:
            intervals = touched_by(self.run.lake.changes(TRIPS, then, version), micros(window))
        except (PySparkException, Py4JJavaError) as e:
            if not any(sign in str(e) for sign in _NO_CHANGES):
                raise
            return ALWAYS, f"what changed in {name} after version {then} is not on record any more"
        return intervals, f"{name} went from version {then} to {version}"

    def replace(self, rows: DataFrame, intervals: Sequence[Interval], *, whole: bool) -> None:
        """Replace the rows with a `dropoff_at` in the intervals.

        `whole` says that these are all rows there are: the table may then change its rules.
        """
        lake = self.run.lake
        if self._version is None:
            lake.create(self.table, self.rules)
            self._version = lake.version(self.table)
        self._properties = lake.properties(self.table)  # as another run may have left them by now
        other = self._properties.get(REWRITING) or any(
            self._properties.get(k) != v for k, v in self.rules.items()
        )
        if other and not whole:
            raise self._changed_under_this_run()
        if other:
            self._set({REWRITING: self.run.run_id, UP_TO: ""})
        seen = {name: self._properties.get(name) for name in (*self.rules, REWRITING)}

        def check() -> None:  # a commit that lost a race may have lost it against a rewrite
            now = lake.properties(self.table)
            if any(now.get(name) != value for name, value in seen.items()):
                raise self._changed_under_this_run()

        where = sql_within("dropoff_at", intervals)
        lake.replace(self.table, rows, where, note=self._trips_read, check=check)
        self._moved()
        if other:
            check()
            self._set({**self.rules, REWRITING: ""})

    def _changed_under_this_run(self) -> UsageError:
        return UsageError(
            f"another run rewrites {self.table.name} under other rules at this moment: run this "
            "again when that one has ended, under the same rules as that one"
        )

    def mark_up_to_date(self) -> None:
        """Note that the table now holds the pairs of all trips that this run read.

        Not where another run wrote to it at the same time: which of the two read the later trips
        is not known here, and an earlier mark costs no more than work that was done before.
        """
        assert self._version is not None, "the table was made before"
        mark = f"{self._trips_read}@{self._version}"
        if self.run.lake.version(self.table) != self._version:
            log(f"{self.run.job}: another run wrote to {self.table.name} too: its mark stays")
        elif self._properties.get(UP_TO) != f"{self._trips_read}@{self._version - 1}":
            self._set({UP_TO: mark})

    def _held(self, mark: str) -> tuple[str, int]:
        """The silver.trips whose pairs are still all here: id ("" if it is not one) and version."""
        table_id, read, *rest = mark.split("@")
        then, at = int(read), int(rest[0]) if rest else 0
        if self._version == at + 1:  # nothing came after the mark
            return table_id, then
        for version, note in self.run.lake.notes(self.table):
            if version > at:
                noted_id, _, noted = note.partition("@")
                table_id = table_id if noted_id == table_id else ""
                then = min(then, int(noted))
        return table_id, then

    @property
    def _trips_read(self) -> str:
        return f"{self._trips_id}@{self.run.tables_in[TRIPS.name]}"

    @cached_property
    def _trips_id(self) -> str:
        return self.run.lake.identity(TRIPS)[0]

    def _set(self, properties: Mapping[str, str]) -> None:
        self.run.lake.set_properties(self.table, properties)
        self._properties |= properties
        self._moved()

    def _moved(self) -> None:
        """Count a commit of this run; others' show as versions beyond."""
        assert self._version is not None, "the table was made before"
        self._version += 1


def _said(rules: Mapping[str, str]) -> str:
    said = f"radii {rules[RADII]} m, window {rules[WINDOW_S]} s, match {rules[MATCH]}"
    return said + (f", how {rules[HOW]}" if HOW in rules else "")

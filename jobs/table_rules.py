"""Tables whose rows were all made under one set of rules, which are properties of the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from jobs.lake import Lake
from pipelines.errors import UsageError
from schemas import Table

_PREFIX = "roundtrip."


def create_under(
    lake: Lake,
    table: Table,
    rules: Mapping[str, str],
    *,
    anew: bool,
    copied_to: Collection[Table] = (),
) -> None:
    """Create the table under `rules`, or see that what is there was made under the same.

    With `anew`, rows that were made under others are removed first, here and in the tables that
    they were `copied_to`. Raises UsageError that names both sets, where they differ and `anew` is
    not asked for.
    """
    wanted = {_PREFIX + name: value for name, value in rules.items()}
    lake.create(table, wanted)
    properties = lake.properties(table)
    have = {name: properties.get(name, "") for name in wanted}
    if have == wanted:
        return
    if not anew:
        raise UsageError(
            f"{table.name} was made with {_said(have)}; this run asks for {_said(wanted)}: ask for "
            "the same, or make it anew with --anew"
        )
    # First the rows: a run that is cut off in between leaves none, and they fit any rules.
    for made in (*filter(lake.exists, copied_to), table):
        lake.replace(made, lake.read(made).limit(0), "true")
    lake.set_properties(table, wanted)


def _said(rules: Mapping[str, str]) -> str:
    return ", ".join(
        f"--{name.removeprefix(_PREFIX).replace('_', '-')} {value or '(none)'}"
        for name, value in rules.items()
    )

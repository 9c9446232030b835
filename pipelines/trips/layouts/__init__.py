"""Layouts of delivered trip files: which column of a source is which of ours.

A layout is a TOML file; `nyc_tlc.toml` beside this module is the built-in one and documents the
format. Users add their own with --mapping.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipelines.errors import UsageError

REQUIRED = ("pickup_at", "dropoff_at", "pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")
NUMBERS = ("distance_mi", "fare_usd", "tip_usd", "tolls_usd", "total_usd", "passengers")
TEXTS = ("service", "payment_type", "vendor")
COLUMNS = (*REQUIRED, *NUMBERS, *TEXTS)

MILES_PER_UNIT = {"mi": 1.0, "km": 1 / 1.609344, "m": 1 / 1609.344}
DEGREES_PER_UNIT = {"deg": 1.0, "microdeg": 1e-6}


@dataclass(frozen=True)
class Layout:
    """How a family of files names its columns, and what its times and numbers mean.

    `columns` maps our column to the names it may have in a source (normalised, see `normalise`).
    `time_formats` are Spark datetime patterns; without any, times are ISO 8601 with a space or T.
    """

    name: str
    timezone: str
    columns: Mapping[str, tuple[str, ...]] = field(hash=False)
    service_default: str | None = None
    service_when_column: Mapping[str, str] = field(default_factory=dict, hash=False)
    distance_unit: str = "mi"
    coordinates_unit: str = "deg"
    time_formats: tuple[str, ...] = ()
    unusable: tuple[tuple[tuple[str, ...], str], ...] = ()

    @property
    def times_have_zone(self) -> bool:
        """Whether `time_formats` read a zone, so that times are instants and not a wall clock."""
        return any(map(_reads_zone, self.time_formats))

    def in_timezone(self, timezone: str | None) -> Layout:
        """The same layout with another time zone, or itself where none is given."""
        return self if timezone is None else replace(self, timezone=checked_timezone(timezone))


def _reads_zone(time_format: str) -> bool:
    outside_quotes = "".join(time_format.split("'")[::2])
    return bool(set(outside_quotes) & set("VzOXxZ"))


@dataclass(frozen=True)
class Recognised:
    """A header that a layout fits: `source` maps our column to the header's own spelling."""

    layout: Layout
    source: tuple[tuple[str, str], ...]
    service: str | None


class Unrecognised(ValueError):
    """No layout fits a header; the message says what is missing."""


def normalise(name: str) -> str:
    """A header's name without regard to case, surrounding spaces, or spaces for underscores."""
    return "_".join(name.strip().lower().split())


def checked_timezone(name: str) -> str:
    """`name` if it is an IANA time zone, else UsageError."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise UsageError(f"no time zone {name!r}: use an IANA name such as Europe/Lisbon") from e
    return name


def builtin_layouts() -> list[Layout]:
    """The layouts that come with the package."""
    found = sorted(
        (f for f in files(__name__).iterdir() if f.name.endswith(".toml")), key=lambda f: f.name
    )
    return [parse_layout(f.read_text(encoding="utf-8"), f.name) for f in found]


def read_layout(path: str) -> Layout:
    """A user's layout file. Raises UsageError naming the file and what is wrong in it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"--mapping {path}: cannot be read: {e}") from e
    return parse_layout(text, path)


def parse_layout(text: str, where: str) -> Layout:
    """A layout from TOML; `where` names the file in errors (UsageError)."""

    def wrong(what: str) -> UsageError:
        return UsageError(f"mapping {where}: {what}")

    try:
        doc = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise wrong(f"not valid TOML: {e}") from e
    _known_keys(
        doc,
        {"name", "timezone", "columns", "service", "units", "times", "unusable"},
        wrong,
        "the top level",
    )
    for key in ("name", "timezone"):
        if not isinstance(doc.get(key), str) or not doc[key]:
            raise wrong(f'needs {key} = "..."')
    columns = doc.get("columns")
    if not isinstance(columns, dict):
        raise wrong("needs a table [columns]")
    _known_keys(columns, set(COLUMNS), wrong, "[columns]")
    for column, names in columns.items():
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or not names:
            raise wrong(f"[columns] {column} must be a list of names")
    missing = [c for c in REQUIRED if c not in columns]
    if missing:
        raise wrong(f"[columns] lacks {', '.join(missing)}")
    service, units, times = (doc.get(k, {}) for k in ("service", "units", "times"))
    _known_keys(service, {"default", "when_column"}, wrong, "[service]")
    _known_keys(units, {"distance", "coordinates"}, wrong, "[units]")
    _known_keys(times, {"formats"}, wrong, "[times]")
    distance, coordinates = units.get("distance", "mi"), units.get("coordinates", "deg")
    if distance not in MILES_PER_UNIT:
        raise wrong(f"[units] distance must be one of {', '.join(MILES_PER_UNIT)}")
    if coordinates not in DEGREES_PER_UNIT:
        raise wrong(f"[units] coordinates must be one of {', '.join(DEGREES_PER_UNIT)}")
    try:
        checked_timezone(doc["timezone"])
    except UsageError as e:
        raise wrong(str(e)) from e
    formats = times.get("formats", [])
    if not isinstance(formats, list) or not all(isinstance(f, str) and f for f in formats):
        raise wrong("[times] formats must be a list of patterns")
    if len(set(map(_reads_zone, formats))) > 1:
        raise wrong("[times] formats must read a zone all of them or none of them")
    unusable = doc.get("unusable", [])
    for entry in unusable:
        _known_keys(entry, {"columns", "message"}, wrong, "[[unusable]]")
        if not entry.get("columns") or not entry.get("message"):
            raise wrong("[[unusable]] needs columns and message")
    return Layout(
        name=doc["name"],
        timezone=doc["timezone"],
        columns={c: tuple(map(normalise, names)) for c, names in columns.items()},
        service_default=service.get("default"),
        service_when_column={
            normalise(c): s for c, s in dict(service.get("when_column", {})).items()
        },
        distance_unit=distance,
        coordinates_unit=coordinates,
        time_formats=tuple(formats),
        unusable=tuple((tuple(map(normalise, e["columns"])), e["message"]) for e in unusable),
    )


def _known_keys(table: Any, known: set[str], wrong: Any, where: str) -> None:
    if not isinstance(table, dict):
        raise wrong(f"{where} must be a table")
    unknown = sorted(set(table) - known)
    if unknown:
        raise wrong(f"unknown {', '.join(unknown)} in {where}; known: {', '.join(sorted(known))}")


def _shortened(text: str, most: int = 500) -> str:
    """For people's eyes: a terminal obeys control characters."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= most else text[:most] + "..."


def recognise(header: Sequence[str], layouts: Iterable[Layout]) -> Recognised:
    """The first layout that fits `header`, with the header's own names.

    Raises Unrecognised, with the reason of the layout that comes nearest.
    """
    by_name: dict[str, str] = {}
    for name in header:
        if normalise(name) in by_name:
            raise Unrecognised(
                f"has the columns {by_name[normalise(name)]!r} and {name!r}: "
                "which of them counts cannot be told"
            )
        by_name[normalise(name)] = name
    nearest: tuple[int, str] | None = None
    for layout in layouts:
        source: dict[str, str] = {}
        for column, names in layout.columns.items():
            present = [by_name[n] for n in dict.fromkeys(names) if n in by_name]
            if len(present) > 1:
                raise Unrecognised(f"has {' and '.join(present)}, both of which mean {column}")
            if present:
                source[column] = present[0]
        missing = [c for c in REQUIRED if c not in source]
        if not missing:
            service = next(
                (s for c, s in layout.service_when_column.items() if c in by_name),
                layout.service_default,
            )
            return Recognised(layout, tuple(sorted(source.items())), service)
        reason = (
            f"has no known column for {', '.join(missing)} (layout {layout.name}); its columns "
            f"are {_shortened(', '.join(header))}. A layout of your own goes into "
            "--mapping FILE.toml"
        )
        for columns, message in layout.unusable:
            if found := [by_name[c] for c in columns if c in by_name]:
                reason = message.replace("{column}", found[0])
        if nearest is None or len(missing) < nearest[0]:
            nearest = (len(missing), reason)
    raise Unrecognised(nearest[1] if nearest else "no layouts to compare with")

"""What the page tells, as plain numbers: everything that is drawn and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from pipelines.page import number
from pipelines.trips.picture import View


@dataclass(frozen=True)
class DensityMap:
    """Points by pixel: `counts` has shape (height, width), row 0 in the north."""

    view: View
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Story:
    """The numbers of the picture. What goes by radius is cumulative, radii in metres.

    `hours` maps a radius to (trips, trips with a return) for each hour of the day, `wait_bins` to
    pairs for each `bin_s` of wait. `maps` holds the city and its middle, or nothing without pairs.
    `made` says that the trips are made by a program.
    """

    first_day: date | None
    last_day: date | None
    window_s: int
    trips: int
    starts: int
    pairs: Mapping[int, int]
    with_return: Mapping[int, int]
    hours: Mapping[int, tuple[tuple[int, int], ...]]
    bin_s: int
    wait_bins: Mapping[int, tuple[int, ...]]
    maps: tuple[DensityMap, ...]
    files: tuple[str, ...]
    versions: Mapping[str, int]
    made: bool

    @property
    def radii_m(self) -> tuple[int, ...]:
        return tuple(sorted(self.pairs))

    @property
    def largest_m(self) -> int:
        return self.radii_m[-1]

    def share(self, radius_m: int) -> float:
        """Share of trips with a return; 0 without trips."""
        return self.with_return[radius_m] / self.trips if self.trips else 0.0

    def hourly_shares(self, radius_m: int) -> list[float | None]:
        """Share of the trips of each hour that have a return; None for hours without trips."""
        return [some / trips if trips else None for trips, some in self.hours[radius_m]]

    def median_wait_s(self, radius_m: int) -> float | None:
        """Median wait, as exact as the bins are narrow; None without pairs."""
        bins = np.array(self.wait_bins[radius_m], dtype=float)
        if not bins.sum():
            return None
        cdf = np.append(0, np.cumsum(bins)) / bins.sum()
        return float(np.interp(0.5, cdf, np.arange(len(cdf)) * self.bin_s))


def days(story: Story) -> str:
    """The dates that the story covers, in words."""
    first, last = story.first_day, story.last_day
    if first is None or last is None:
        return "no days"
    text = f"{last.day} {last:%B %Y}"
    return text if first == last else f"{first.day} {first:%B %Y} to {text}"


def length(seconds: float) -> str:
    """A length of time in hours and minutes, such as 8 h or 3 h 20 min."""
    hours, minutes = divmod(round(seconds / 60), 60)
    parts = [f"{hours}\u00a0h"] * bool(hours) + [f"{minutes}\u00a0min"] * bool(minutes)
    return "\u00a0".join(parts) or "0\u00a0min"


def headline(story: Story) -> str:
    r = story.largest_m
    if not story.pairs[r]:
        return "No trip went back the way another came"
    return f"{100 * story.share(r):.0f}\u00a0% of trips had a trip back"


def summary(story: Story) -> str:
    """The definition and the numbers in two sentences."""
    r, wait = story.largest_m, story.median_wait_s(story.largest_m)
    text = (
        f"For {number(story.with_return[r])} of {number(story.trips)} trips, another set off "
        f"within {r}\u00a0m of where the first ended and went back to within {r}\u00a0m of where "
        f"it began, less than {length(story.window_s)} later."
    )
    if wait is None:
        return text
    return (
        f"{text} That makes {number(story.pairs[r])} pairs; half of them waited less than "
        f"{length(wait)}."
    )

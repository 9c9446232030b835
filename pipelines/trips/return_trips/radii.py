"""Several radii answered by one join: a pair is stored with the smallest that it satisfies."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.errors import UsageError


def checked_radii(radii_m: Sequence[int]) -> list[int]:
    """The radii in whole metres, sorted, each once. Raises UsageError for impossible ones."""
    radii = sorted(set(radii_m))
    if not radii or radii[0] <= 0 or any(int(r) != r for r in radii):
        raise UsageError(f"radii must be whole metres above 0, not {list(radii_m)}")
    return [int(r) for r in radii]


def smallest_radius(gap_m: Column, radii_m: Sequence[int]) -> Column:
    """The smallest radius that exceeds the gap (int); NULL beyond the largest."""
    return F.coalesce(*(F.when(gap_m < r, F.lit(r)) for r in sorted(radii_m)))


def reached_radii(smallest_m: str, radii_m: Sequence[int]) -> Column:
    """Every radius that a pair with this smallest one satisfies (array of int)."""
    every = F.array(*map(F.lit, sorted(radii_m)))
    return F.filter(every, lambda radius: radius >= F.col(smallest_m))

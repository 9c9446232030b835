"""A grid for plans in SQL: good for New York, and not for the poles; ours is good for both.

A degree of longitude counts as long as at the northern edge of the box, where it is shortest.
"""

from __future__ import annotations

import math

from udfs.geometry import EARTH_RADIUS_M

WINDOW_US = 8 * 3600 * 10**6
NORTH_EDGE_DEG = 42.0


def degrees(length_m: float) -> tuple[float, float]:
    """Latitude and longitude that span `length_m` everywhere in the box."""
    lat = math.degrees(length_m / EARTH_RADIUS_M) * (1 + 1e-6)
    return lat, lat / math.cos(math.radians(NORTH_EDGE_DEG))

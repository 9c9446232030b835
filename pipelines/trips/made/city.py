"""The ground on which made trips run: neighbourhoods, street grid, addresses.

Lengths are metres in a plane round Fifth Avenue and 42nd Street; `u` runs across the avenues of
Manhattan (to the east-south-east), `v` along them (to the north-north-east). The city is the same
whatever seed the trips have, as hot spots stay where they are from day to day.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from pipelines.trips.made.outlines import OUTLINES, Outline

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PARTS = ("night", "morning", "noon", "evening", "late")
"""Parts of the day; each has origins and destinations of its own."""

_ORIGIN_LAT, _ORIGIN_LON = 40.7536, -73.9808  # Fifth Avenue and 42nd Street
_M_PER_LAT = 111_195.0
_M_PER_LON = _M_PER_LAT * math.cos(math.radians(40.75))
_GRID_DEG = 29.0  # Manhattan's avenues run this far east of north

# Avenues by their distance from Fifth, and Broadway as (v, u), both metres in Manhattan's grid.
_AVENUES_M = np.array(
    (-2740, -2490, -2240, -2000, -1756, -1500, -1256, -1012, -768, -524, -280, 0, 128, 250, 373,
     501, 687, 885, 1100, 1320, 1540, 1760, 1980, 2200),
    dtype=float,
)  # fmt: skip
_BROADWAY_LAT_LON = (
    (40.7050, -74.0134), (40.7190, -74.0012), (40.7305, -73.9925), (40.7359, -73.9903),
    (40.7425, -73.9890), (40.7500, -73.9876), (40.7560, -73.9865), (40.7625, -73.9835),
    (40.7681, -73.9819), (40.7781, -73.9819), (40.7870, -73.9775), (40.7940, -73.9720),
    (40.8075, -73.9640), (40.8158, -73.9585), (40.8270, -73.9495), (40.8407, -73.9395),
    (40.8680, -73.9190),
)  # fmt: skip
_STREET_M = 80.5  # between two streets
_AVENUE_M = 220.0  # between two avenues outside of Manhattan
_GRIDS_DEG = (29.0, 10.0, 40.0, -25.0, 0.0)  # directions of the grids outside of Manhattan
_MANHATTAN_PARK = (-760.0, -8.0, 17 * _STREET_M + 10, 68 * _STREET_M - 10)  # Central Park: u, v
_PROSPECT_PARK: Outline = (
    (40.6725, -73.9705), (40.6610, -73.9625), (40.6515, -73.9640), (40.6510, -73.9725),
    (40.6610, -73.9795),
)  # fmt: skip

# Name, place and how many of 1000 trip ends it has beyond its surroundings.
_HOT_SPOTS = (
    ("Penn Station, Seventh Avenue", 40.7502, -73.9914, 6.0),
    ("Penn Station, Eighth Avenue", 40.7511, -73.9941, 4.5),
    ("Port Authority Bus Terminal", 40.7563, -73.9903, 4.0),
    ("Grand Central, Vanderbilt Avenue", 40.7524, -73.9780, 2.2),
    ("Grand Central, Lexington Avenue", 40.7524, -73.9754, 1.2),
    ("LaGuardia, terminal D", 40.7697, -73.8635, 7.0),
    ("LaGuardia, terminal C", 40.7690, -73.8627, 3.0),
    ("LaGuardia, terminal B west", 40.7740, -73.8738, 7.0),
    ("LaGuardia, terminal B east", 40.7736, -73.8709, 5.0),
    ("JFK, terminal 5", 40.6456, -73.7766, 4.0),
    ("JFK, terminal 4", 40.6445, -73.7820, 6.0),
    ("JFK, terminal 8", 40.6488, -73.7838, 2.0),
    ("JFK, terminal 1", 40.6435, -73.7895, 2.0),
    ("JFK, terminal 7", 40.6480, -73.7870, 1.5),
    ("Columbus Circle", 40.7683, -73.9822, 1.6),
    ("Times Square", 40.7585, -73.9855, 1.2),
    ("Rockefeller Center", 40.7594, -73.9811, 0.8),
    ("Hotels on Sixth Avenue", 40.7621, -73.9789, 1.4),
    ("Grand Army Plaza", 40.7643, -73.9733, 1.3),
    ("Bloomingdale's", 40.7621, -73.9661, 1.2),
    ("Union Square", 40.7362, -73.9895, 1.3),
    ("Kips Bay hospitals", 40.7422, -73.9747, 0.9),
    ("World Financial Center", 40.7149, -74.0138, 0.9),
    ("Greenwich Street", 40.7206, -74.0103, 0.8),
    ("Meatpacking District", 40.7418, -74.0050, 0.7),
    ("Metropolitan Museum", 40.7794, -73.9622, 0.9),
    ("86th Street and Lexington Avenue", 40.7794, -73.9554, 1.4),
    ("Mount Sinai Hospital", 40.7893, -73.9528, 0.8),
    ("Harlem-125th Street", 40.8051, -73.9388, 1.6),
    ("Forest Hills-71st Avenue", 40.7211, -73.8443, 1.0),
    ("Javits Center", 40.7580, -74.0012, 0.8),
    ("First Avenue and 14th Street", 40.7314, -73.9825, 0.9),
    ("New York Hospital", 40.7648, -73.9550, 0.7),
    ("Columbia University", 40.8075, -73.9640, 0.5),
    ("Atlantic Terminal", 40.6840, -73.9775, 0.7),
    ("Bedford Avenue", 40.7175, -73.9575, 0.6),
    ("Roosevelt Avenue", 40.7465, -73.8913, 0.5),
    ("Yankee Stadium", 40.8275, -73.9260, 0.1),
)
_AIRPORTS = ("JFK Airport", "LaGuardia Airport", "Newark Airport")

_ADDRESSES = 80  # with traffic of their own, per neighbourhood: stations, hotels, offices
_TERMINAL_M = 45.0  # of kerb along an airport's terminal
_AT_ADDRESSES = 0.36  # share of a neighbourhood's trip ends that belong to them


def to_plane(lat: Floats, lon: Floats) -> tuple[Floats, Floats]:
    """Metres (u, v) in Manhattan's grid of degrees."""
    return _turned((lon - _ORIGIN_LON) * _M_PER_LON, (lat - _ORIGIN_LAT) * _M_PER_LAT, _GRID_DEG)


def to_degrees(u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Degrees (lat, lon) of metres in Manhattan's grid."""
    x, y = _turned(u, v, -_GRID_DEG)
    return _ORIGIN_LAT + y / _M_PER_LAT, _ORIGIN_LON + x / _M_PER_LON


def _turned(x: Floats, y: Floats, degrees: float | Floats) -> tuple[Floats, Floats]:
    a = np.radians(degrees)
    return x * np.cos(a) - y * np.sin(a), x * np.sin(a) + y * np.cos(a)


def inside(lat: Floats, lon: Floats, outline: Outline) -> npt.NDArray[np.bool_]:
    """Whether each point is inside of the polygon (even-odd rule)."""
    found = np.zeros(len(lat), dtype=bool)
    for (lat_1, lon_1), (lat_2, lon_2) in zip(outline, outline[1:] + outline[:1], strict=True):
        if lat_1 != lat_2:
            spans = (lat_1 > lat) != (lat_2 > lat)
            found ^= spans & (lon < lon_1 + (lat - lat_1) * ((lon_2 - lon_1) / (lat_2 - lat_1)))
    return found


@dataclass(frozen=True)
class City:
    """Neighbourhoods (arrays of one length, by index) and what is in them.

    `starts_cdf` (parts, places) and `ends_cdf` (parts, places, places: to, given from) are
    cumulative shares; `address_u`, `address_v`, `address_cdf` are (places, addresses), and
    `address_m` is how far along a place's addresses are (standard deviation, metres).
    """

    names: tuple[str, ...]
    boroughs: npt.NDArray[np.str_]
    u: Floats
    v: Floats
    across_m: Floats
    along_m: Floats
    grid_deg: Floats
    starts_cdf: Floats
    ends_cdf: Floats
    at_address: Floats
    address_u: Floats
    address_v: Floats
    address_cdf: Floats
    address_m: Floats

    def scatter(self, place: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """A point (u, v) in each of the given places: on a street of its grid, on land."""
        u, v = np.empty(len(place)), np.empty(len(place))
        todo = np.arange(len(place))
        for attempt in range(12):
            p = place[todo]
            # Triangular, not normal: neighbourhoods are flat in the middle and have an end.
            spread = math.sqrt(6.0) / (1 + attempt / 6)
            tu = self.u[p] + self.across_m[p] * rng.triangular(-spread, 0, spread, len(p))
            tv = self.v[p] + self.along_m[p] * rng.triangular(-spread, 0, spread, len(p))
            u[todo], v[todo] = self._on_street(p, tu, tv, rng)
            todo = todo[~self._on_land(p, u[todo], v[todo])]
            if not len(todo):
                break
        u[todo], v[todo] = self.u[place[todo]], self.v[place[todo]]
        return u, v

    def _on_street(
        self, place: Ints, u: Floats, v: Floats, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        pick = rng.random(len(place))
        manhattan = self.boroughs[place] == "Manhattan"
        nearest = np.abs(u[:, None] - _AVENUES_M).argmin(axis=1)
        bu = np.interp(v, *_broadway())
        broadway = (pick < 0.12) & (np.abs(u - bu) < 300)
        avenue = ~broadway & (pick < 0.58)
        mu = np.where(broadway, bu, np.where(avenue, _AVENUES_M[nearest], u))
        mv = np.where(broadway | avenue, v, np.round(v / _STREET_M) * _STREET_M)
        # Elsewhere the grid of each neighbourhood starts at its middle and has its own direction.
        turn = self.grid_deg[place] - _GRID_DEG
        a, b = _turned(u - self.u[place], v - self.v[place], turn)
        oa = np.where(pick < 0.5, np.round(a / _AVENUE_M) * _AVENUE_M, a)
        ob = np.where(pick < 0.5, b, np.round(b / _STREET_M) * _STREET_M)
        du, dv = _turned(oa, ob, -turn)
        return (
            np.where(manhattan, mu, self.u[place] + du),
            np.where(manhattan, mv, self.v[place] + dv),
        )

    def _on_land(self, place: Ints, u: Floats, v: Floats) -> npt.NDArray[np.bool_]:
        lat, lon = to_degrees(u, v)
        land = np.zeros(len(place), dtype=bool)
        for borough, outlines in OUTLINES.items():
            here = self.boroughs[place] == borough
            for outline in outlines:
                land[here] |= inside(lat[here], lon[here], outline)
        west, east, south, north = _MANHATTAN_PARK
        park = (west < u) & (u < east) & (south < v) & (v < north)
        return land & ~park & ~inside(lat, lon, _PROSPECT_PARK)


@lru_cache(maxsize=1)
def _broadway() -> tuple[Floats, Floats]:
    lat, lon = np.array(_BROADWAY_LAT_LON).T
    u, v = to_plane(lat, lon)
    return v, u


@lru_cache(maxsize=1)
def new_york() -> City:
    """The city from places.csv; the same on every call and in every process."""
    text = files("pipelines.trips.made").joinpath("places.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(x for x in text.splitlines() if not x.startswith("#")))
    names = tuple(r["name"] for r in rows)

    def column(name: str) -> Floats:
        return np.array([float(r[name]) for r in rows])

    u, v = to_plane(column("lat"), column("lon"))
    starts = np.array([column(f"p_{p}") for p in PARTS]) + 0.05
    ends = np.array([column(f"d_{p}") for p in PARTS]) + 0.05
    rng = np.random.default_rng(29)  # of the ground, not of the trips
    n = len(rows)
    empty = np.zeros((n, _ADDRESSES))
    boroughs = np.array([r["borough"] for r in rows])
    grid = np.where(boroughs == "Manhattan", _GRID_DEG, rng.choice(_GRIDS_DEG, n))
    airports = np.isin(names, _AIRPORTS)
    flows = np.array([_flows(s, e, u, v, airports) for s, e in zip(starts, ends, strict=True)])
    bare = City(
        names, boroughs, u, v, column("across_m"), column("along_m"), grid,
        _cumulative(starts), _cumulative(flows), np.zeros(n), empty, empty, empty, np.zeros(n),
    )  # fmt: skip
    au, av = (x.reshape(n, -1) for x in bare.scatter(np.repeat(np.arange(n), _ADDRESSES), rng))
    weights = rng.permuted(np.tile(1 / (np.arange(_ADDRESSES) + 4.0), (n, 1)), axis=1)
    weights *= _AT_ADDRESSES / weights.sum(axis=1, keepdims=True)
    traffic = (starts + ends).sum(axis=0) / (starts + ends).sum()
    hot_lat, hot_lon, hot = np.array([h[1:] for h in _HOT_SPOTS], dtype=float).T
    for i, (hu, hv, share) in enumerate(zip(*to_plane(hot_lat, hot_lon), hot / 1000, strict=True)):
        place = int(np.hypot(u - hu, v - hv).argmin())
        au[place, i], av[place, i] = hu, hv
        weights[place, i] += share / traffic[place]
    for airport in np.flatnonzero(airports):  # nobody lives there
        at_terminals = weights[airport] > _AT_ADDRESSES / 8
        weights[airport] *= np.where(at_terminals, 1.0, 0.05)
        weights[airport] *= 0.96 / weights[airport].sum()
    total = weights.sum(axis=1)
    weights *= np.minimum(1, 0.97 / total)[:, None]
    return City(
        names, boroughs, u, v, bare.across_m, bare.along_m, grid, bare.starts_cdf, bare.ends_cdf,
        weights.sum(axis=1), au, av, _cumulative(weights), np.where(airports, _TERMINAL_M, 0.0),
    )  # fmt: skip


def _flows(starts: Floats, ends: Floats, u: Floats, v: Floats, airports: npt.NDArray) -> Floats:
    """Trips from each place to each: gravity by distance, scaled to start and end as counted."""
    d = np.hypot(u[:, None] - u, v[:, None] - v)
    pull = (0.15 + 1 - np.exp(-((d / 700) ** 2))) / (1 + d / 1900) ** 3.1
    pull[airports] = pull[:, airports] = 0.05  # people fly from afar
    pull[np.ix_(airports, airports)] = 0.001
    flows = pull * starts[:, None] * ends
    for _ in range(12):  # iterative proportional fitting
        flows *= ends / ends.sum() * starts.sum() / flows.sum(axis=0)
        flows *= (starts / flows.sum(axis=1))[:, None]
    return flows


def _cumulative(weights: Floats) -> Floats:
    """Cumulative shares along the last axis; the last is exactly 1."""
    cdf = np.cumsum(weights, axis=-1)
    cdf /= cdf[..., -1:]
    return cdf

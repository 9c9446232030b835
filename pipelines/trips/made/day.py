"""One day of made trips: who rides from where to where, when, how fast and for how much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from pipelines.trips.made.city import City, Floats, Ints, new_york, to_degrees

TIMEZONE = ZoneInfo("America/New_York")
_DAY_S = 86_400
_M_PER_MI = 1609.344

# Trips by the hour of pickup, of 1000.
_WEEKDAY = (
    21, 12, 8, 6, 6, 11, 29, 51, 60, 56, 50, 49,
    49, 50, 54, 51, 42, 51, 63, 65, 64, 63, 55, 34,
)  # fmt: skip
_WEEKEND = (
    52, 44, 35, 25, 14, 9, 10, 15, 25, 35, 44, 49,
    52, 53, 52, 51, 47, 53, 60, 62, 56, 54, 53, 50,
)  # fmt: skip
# Median speed of a trip of 2.5 km by the hour of pickup, mph.
_MPH = (
    12.9, 13.6, 13.8, 13.6, 14, 14.6, 12.5, 9.6, 7.5, 7, 6.6, 6.5,
    6.4, 6.4, 6.2, 6.2, 6.6, 7.1, 7, 7.9, 8.9, 10.1, 11.1, 12,
)  # fmt: skip
# Part of the day (index in PARTS) by hour: people sleep in on weekends and stay out.
_PART = (0,) * 6 + (1,) * 4 + (2,) * 6 + (3,) * 4 + (4,) * 4
_PART_WEEKEND = (0,) * 6 + (2,) * 10 + (4,) * 8

_NOWHERE = 0.0065  # share of trips that end where they began, as meters are tried or forgotten
_PASSENGERS = (0.744, 0.125, 0.034, 0.015, 0.052, 0.030)  # 1 to 6
_PAYMENTS = (0.643, 0.352, 0.004, 0.001)  # TLC's codes 1 card, 2 cash, 3 no charge, 4 dispute
_MANHATTAN_JFK_USD = 52.0


@dataclass(frozen=True)
class MadeDay:
    """A day's trips in order of pickup; arrays of one length, times in seconds of wall clock.

    `pickup_s` and `dropoff_s` count from 1970-01-01 00:00 on New York's clocks. `commuter` marks
    the two rides of a commuter: out, and back within 8 h.
    """

    pickup_s: Ints
    dropoff_s: Ints
    pickup_lat: Floats
    pickup_lon: Floats
    dropoff_lat: Floats
    dropoff_lon: Floats
    distance_mi: Floats
    vendor: Ints
    passengers: Ints
    rate_code: Ints
    payment_type: Ints
    fare_usd: Floats
    extra_usd: Floats
    tip_usd: Floats
    tolls_usd: Floats
    total_usd: Floats
    commuter: npt.NDArray[np.bool_]


def made_day(day: date, trips: int, *, seed: int, commuter_share: float) -> MadeDay:
    """`trips` trips that start on `day`; depends on the arguments alone, not on other days.

    `commuter_share` of the trips are the two rides of people who go back the way they came.
    """
    rng = np.random.default_rng([seed, day.toordinal()])
    city = new_york()
    weekend = day.weekday() >= 5
    start = np.sort(_starts(trips, weekend, rng))
    hour = (start // 3600).astype(np.int64)
    part = np.array(_PART_WEEKEND if weekend else _PART)[hour]
    origin = _drawn(city.starts_cdf, part, rng)
    places = len(city.names)
    target = _drawn(city.ends_cdf.reshape(-1, places), part * places + origin, rng)
    pu, pv = _ends_in(city, origin, rng)
    du, dv = _ends_in(city, target, rng)
    nowhere = np.flatnonzero(rng.random(trips) < _NOWHERE)
    du[nowhere], dv[nowhere] = pu[nowhere], pv[nowhere]
    took = _durations(start, pu, pv, du, dv, rng)

    # Commuters ride out early enough to go back on the same day; their way back takes the place
    # of somebody else's trip.
    early = (start + took < 20 * 3600) & (np.hypot(pu - du, pv - dv) > 300)
    riders = int(trips * commuter_share / 2)
    out = rng.permutation(np.flatnonzero(early))[:riders]
    back = rng.permutation(np.setdiff1d(np.arange(trips), out))[: len(out)]
    out = out[: len(back)]
    ended = (start + took)[out]
    wait = 300 + rng.beta(1.3, 1.6, len(out)) * (np.minimum(_DAY_S - 1 - ended, 7.9 * 3600) - 300)
    start[back] = ended + wait
    for to, came_from in ((pu, du), (pv, dv), (du, pu), (dv, pv)):
        to[back] = came_from[out] + rng.normal(0, 6, len(out))
    took[back] = _durations(start[back], pu[back], pv[back], du[back], dv[back], rng)
    commuter = np.zeros(trips, dtype=bool)
    commuter[out] = commuter[back] = True

    order = np.argsort(start, kind="stable")
    columns = (x[order] for x in (start, took, pu, pv, du, dv))
    return _metered(day, *columns, commuter=commuter[order], rng=rng)


def _starts(count: int, weekend: bool, rng: np.random.Generator) -> Floats:
    """Seconds since midnight, by the hour's share and without a step from hour to hour."""
    share = np.array(_WEEKEND if weekend else _WEEKDAY, dtype=float)
    middle = np.repeat((share + np.roll(share, 1)) / 2, 2)[1:]
    quarters = np.stack([np.append(middle, middle[0])[::2], share], axis=1).ravel()
    density = np.interp(
        np.arange(0, 24, 1 / 12), np.arange(0, 24.5, 0.5), np.append(quarters, quarters[0])
    )
    cdf = np.append(0, np.cumsum(density) / density.sum())
    return np.interp(rng.random(count), cdf, np.linspace(0, _DAY_S - 1, len(cdf)))


def _drawn(cdf: Floats, row: Ints, rng: np.random.Generator) -> Ints:
    """An index for each `row` of the cumulative shares `cdf` (rows, choices)."""
    # Rows one after the other, each lifted by its number, make one sorted array to search.
    lifted = (cdf + np.arange(len(cdf))[:, None]).ravel()
    found = np.searchsorted(lifted, row + rng.random(len(row)), side="right")
    return np.minimum(found - row * cdf.shape[1], cdf.shape[1] - 1)


def _ends_in(city: City, place: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Where a trip starts or ends in each place (u, v): at an address or anywhere on a street."""
    at_address = rng.random(len(place)) < city.at_address[place]
    u, v = np.empty(len(place)), np.empty(len(place))
    known = place[at_address]
    which = _drawn(city.address_cdf, known, rng)
    u[at_address], v[at_address] = city.address_u[known, which], city.address_v[known, which]
    u[~at_address], v[~at_address] = city.scatter(place[~at_address], rng)
    # Satellite positions are worse between towers.
    error_m = np.where(rng.random(len(place)) < 0.2, 22.0, 6.0)
    error_m += np.where(at_address, city.address_m[place], 0.0)
    return u + rng.normal(0, error_m), v + rng.normal(0, error_m)


def _way_m(pu: Floats, pv: Floats, du: Floats, dv: Floats) -> Floats:
    """Length of the way along the grid."""
    return np.abs(du - pu) + np.abs(dv - pv)


def _durations(
    start: Floats, pu: Floats, pv: Floats, du: Floats, dv: Floats, rng: np.random.Generator
) -> Floats:
    """Seconds: long trips use faster roads."""
    way = _way_m(pu, pv, du, dv) + 60
    mph = np.array(_MPH)[(start // 3600).astype(np.int64) % 24] * 1.06 * (way / 2500) ** 0.3
    seconds = way / (mph * _M_PER_MI / 3600) * rng.lognormal(0, 0.4, len(way))
    return np.asarray(np.round(np.clip(seconds, 20.0, 3.0 * 3600)), dtype=np.float64)


def _metered(
    day: date, start: Floats, took: Floats, pu: Floats, pv: Floats, du: Floats, dv: Floats,
    *, commuter: npt.NDArray[np.bool_], rng: np.random.Generator,
) -> MadeDay:  # fmt: skip
    """What the meter, the driver and the rider add to a way and its times."""
    n = len(start)
    start = np.floor(start)
    hour = (start // 3600).astype(np.int64) % 24
    pickup_lat, pickup_lon = to_degrees(pu, pv)
    dropoff_lat, dropoff_lon = to_degrees(du, dv)
    miles = np.round(_way_m(pu, pv, du, dv) / _M_PER_MI * rng.lognormal(0.03, 0.06, n), 2)
    # 50 cents for each fifth of a mile above 12 mph, or minute below it.
    slow_s = np.maximum(0, took - miles / 12 * 3600)
    fare = 2.5 + 0.5 * (np.floor(miles * 5) + np.floor(slow_s / 60))
    far_east = (
        (pickup_lon > -73.83) & (pickup_lat < 40.67),
        (dropoff_lon > -73.83) & (dropoff_lat < 40.67),
    )
    in_manhattan = [_in_manhattan(u, v) for u, v in ((pu, pv), (du, dv))]
    flat = (far_east[0] & in_manhattan[1]) | (far_east[1] & in_manhattan[0])
    fare = np.where(flat, _MANHATTAN_JFK_USD, fare)
    weekday = day.weekday() < 5
    night = (hour >= 20) | (hour < 6)
    extra = np.where(night, 0.5, np.where(weekday & (hour >= 16) & (hour < 20), 1.0, 0.0))
    extra = np.where(flat, 0.0, extra)
    crosses = in_manhattan[0] != in_manhattan[1]
    tolls = np.where(crosses & (rng.random(n) < np.where(miles > 6, 0.35, 0.03)), 5.54, 0.0)
    payment = rng.choice(4, n, p=_PAYMENTS) + 1
    before_tip = fare + extra + 0.5 + 0.3 + tolls
    tip_share = rng.choice([0.0, 0.2, 0.25, 0.3], n, p=[0.06, 0.74, 0.14, 0.06])
    tip = np.where(payment == 1, np.round(before_tip * tip_share, 2), 0.0)
    pickup_s, dropoff_s = _wall_clock(day, start, took)
    return MadeDay(
        pickup_s=pickup_s,
        dropoff_s=dropoff_s,
        pickup_lat=np.round(pickup_lat, 6),
        pickup_lon=np.round(pickup_lon, 6),
        dropoff_lat=np.round(dropoff_lat, 6),
        dropoff_lon=np.round(dropoff_lon, 6),
        distance_mi=miles,
        vendor=rng.integers(1, 3, n),
        passengers=rng.choice(6, n, p=_PASSENGERS) + 1,
        rate_code=np.where(flat, 2, 1),
        payment_type=payment,
        fare_usd=fare,
        extra_usd=extra,
        tip_usd=tip,
        tolls_usd=tolls,
        total_usd=np.round(before_tip + tip, 2),
        commuter=commuter,
    )


def _in_manhattan(u: Floats, v: Floats) -> npt.NDArray[np.bool_]:
    """Near enough for a meter: a band along Manhattan's avenues."""
    return (u > -2500) & (u < 1700) & (v > -6500) & (v < 14_500)


def _wall_clock(day: date, start: Floats, took: Floats) -> tuple[Ints, Ints]:
    """Seconds since 1970 on New York's clocks; `start` counts from the day's midnight.

    On the two days a year when clocks change, a start in the hour that spring skips is an hour
    later, and a trip across the change ends at what the clocks then showed.
    """
    midnight = int(
        (datetime.combine(day, datetime.min.time()) - datetime(1970, 1, 1)).total_seconds()
    )
    pickup = midnight + start.astype(np.int64)
    dropoff = pickup + took.astype(np.int64)
    by = _offset_s(day, time(12)) - _offset_s(day, time(0))
    if by:
        change = midnight + 2 * 3600  # on the clocks of the time before
        skipped = (pickup >= change) & (pickup < change + by)
        pickup, dropoff = pickup + by * skipped, dropoff + by * skipped
        across = (pickup < change) & (dropoff >= change)
        dropoff = dropoff + by * across
    return pickup, dropoff


def _offset_s(day: date, at: time) -> int:
    """Seconds by which New York's clocks are ahead of UTC."""
    offset = datetime.combine(day, at, TIMEZONE).utcoffset()
    assert offset is not None  # never for a time zone by name
    return int(offset.total_seconds())

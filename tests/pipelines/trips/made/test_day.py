"""Made days: what a seed fixes, and that trips are where and how New York's could be."""

from __future__ import annotations

from dataclasses import fields
from datetime import date

import numpy as np
import pytest

from pipelines.trips.made.city import Floats, inside, new_york, to_degrees, to_plane
from pipelines.trips.made.day import MadeDay, made_day
from pipelines.trips.made.outlines import BROOKLYN_AND_QUEENS, MANHATTAN, OUTLINES

TUESDAY, SUNDAY = date(2015, 12, 1), date(2015, 12, 6)


@pytest.fixture(scope="module")
def tuesday() -> MadeDay:
    return made_day(TUESDAY, 20_000, seed=1, commuter_share=0.1)


def _metres(lat_1: Floats, lon_1: Floats, lat_2: Floats, lon_2: Floats) -> Floats:
    (u_1, v_1), (u_2, v_2) = to_plane(lat_1, lon_1), to_plane(lat_2, lon_2)
    return np.asarray(np.hypot(u_2 - u_1, v_2 - v_1))


def test_the_same_seed_and_day_make_the_same_trips(tuesday: MadeDay) -> None:
    again = made_day(TUESDAY, 20_000, seed=1, commuter_share=0.1)
    for field in fields(MadeDay):
        assert np.array_equal(getattr(again, field.name), getattr(tuesday, field.name))


@pytest.mark.parametrize(("day", "seed"), [(TUESDAY, 2), (date(2015, 12, 2), 1)])
def test_another_seed_or_day_makes_other_trips(tuesday: MadeDay, day: date, seed: int) -> None:
    other = made_day(day, 20_000, seed=seed, commuter_share=0.1)
    assert np.mean(other.pickup_lat == tuesday.pickup_lat) < 0.01


def test_a_day_has_as_many_trips_as_asked_for_and_starts_them_on_that_day(tuesday: MadeDay) -> None:
    midnight = (TUESDAY - date(1970, 1, 1)).days * 86_400
    assert len(tuesday.pickup_s) == 20_000
    assert tuesday.pickup_s.min() >= midnight
    assert tuesday.pickup_s.max() < midnight + 86_400
    assert (np.diff(tuesday.pickup_s) >= 0).all()
    assert (tuesday.dropoff_s > tuesday.pickup_s).all()


@pytest.mark.parametrize("trips", [1, 2, 3, 10])
def test_few_trips_with_every_share_still_count_right(trips: int) -> None:
    for share in (0.0, 0.5, 1.0):
        made = made_day(TUESDAY, trips, seed=0, commuter_share=share)
        assert len(made.pickup_s) == trips
        assert made.commuter.sum() <= trips * share


def test_commuters_go_back_within_eight_hours_to_where_they_came_from(tuesday: MadeDay) -> None:
    d = tuesday
    found = 0
    rides = np.flatnonzero(d.commuter)
    for a in rides:
        wait = d.pickup_s[rides] - d.dropoff_s[a]
        b = rides[(wait > 0) & (wait < 8 * 3600)]
        here = _metres(d.dropoff_lat[a], d.dropoff_lon[a], d.pickup_lat[b], d.pickup_lon[b])
        there = _metres(d.pickup_lat[a], d.pickup_lon[a], d.dropoff_lat[b], d.dropoff_lon[b])
        found += bool(((here < 50) & (there < 50)).any())
    assert d.commuter.sum() == 2000
    assert found >= 1000 * 0.98  # each outbound ride; a few are jolted beyond 50 m


def test_nobody_starts_or_ends_in_the_rivers(tuesday: MadeDay) -> None:
    # Satellite positions err by metres, so points on the shore may be just off it.
    lat = np.concatenate([tuesday.pickup_lat, tuesday.dropoff_lat])
    lon = np.concatenate([tuesday.pickup_lon, tuesday.dropoff_lon])
    land = np.zeros(len(lat), dtype=bool)
    for outlines in OUTLINES.values():
        for outline in outlines:
            land |= inside(lat, lon, outline)
    assert land.mean() > 0.99


def test_most_trips_start_in_manhattan_and_none_in_the_middle_of_its_park(
    tuesday: MadeDay,
) -> None:
    d = tuesday
    assert 0.8 < inside(d.pickup_lat, d.pickup_lon, MANHATTAN).mean() < 0.9  # a real day: 0.85
    great_lawn = _metres(d.pickup_lat, d.pickup_lon, np.array(40.7813), np.array(-73.9665))
    assert (great_lawn > 200).all()


def test_landmarks_are_inside_of_their_outlines_and_water_is_not() -> None:
    # City Hall, the Met, Fort Tryon; then the Hudson, the East River and New Jersey.
    on_land = np.array([[40.7127, -74.0060], [40.7794, -73.9632], [40.8625, -73.9330]])
    off_land = np.array([[40.7600, -74.0200], [40.7250, -73.9680], [40.7400, -74.0300]])
    assert inside(on_land[:, 0], on_land[:, 1], MANHATTAN).all()
    assert not inside(off_land[:, 0], off_land[:, 1], MANHATTAN).any()
    jfk, bay = (
        (np.array([40.6450]), np.array([-73.7850])),
        (np.array([40.6150]), np.array([-73.8400])),
    )
    assert inside(*jfk, BROOKLYN_AND_QUEENS).all()
    assert not inside(*bay, BROOKLYN_AND_QUEENS).any()


def test_the_plane_turns_back_into_degrees() -> None:
    lat, lon = np.array([40.64, 40.75, 40.9]), np.array([-73.78, -73.99, -73.9])
    again = to_degrees(*to_plane(lat, lon))
    assert np.allclose(again, (lat, lon), atol=1e-12)


def test_rush_hours_are_busy_and_weekend_nights_more_so(tuesday: MadeDay) -> None:
    sunday = made_day(SUNDAY, 20_000, seed=1, commuter_share=0.1)

    def share(day: MadeDay, first: int, last: int) -> float:
        hour = day.pickup_s % 86_400 // 3600
        return float(((hour >= first) & (hour < last)).mean())

    assert share(tuesday, 18, 20) > 4 * share(tuesday, 2, 4)
    assert share(sunday, 0, 4) > 2 * share(tuesday, 0, 4)
    assert share(tuesday, 7, 9) > 2 * share(sunday, 7, 9)


def test_fares_follow_the_meter(tuesday: MadeDay) -> None:
    d = tuesday
    parts = d.fare_usd + d.extra_usd + 0.5 + 0.3 + d.tip_usd + d.tolls_usd
    assert np.allclose(parts, d.total_usd, atol=0.006)
    metered = d.rate_code == 1
    assert (d.fare_usd[metered] >= 2.5 + 2.5 * d.distance_mi[metered] - 0.5 - 1e-9).all()
    assert (d.fare_usd[~metered] == 52).all()  # flat between Manhattan and JFK
    assert (~metered).any()
    cash = d.payment_type == 2
    assert (d.tip_usd[cash] == 0).all()


def test_clocks_that_change_show_no_skipped_hour_and_repeat_one() -> None:
    spring = made_day(date(2015, 3, 8), 20_000, seed=1, commuter_share=0)
    second = spring.pickup_s % 86_400
    assert not ((second >= 2 * 3600) & (second < 3 * 3600)).any()
    autumn = made_day(date(2015, 11, 1), 20_000, seed=1, commuter_share=0)
    # Trips from before two o'clock that end after clocks went back to one seem to end early.
    early = autumn.pickup_s % 86_400 < 2 * 3600
    assert (autumn.dropoff_s[early] < autumn.pickup_s[early]).any()
    assert (autumn.dropoff_s[~early] > autumn.pickup_s[~early]).all()


def test_the_city_is_one_whatever_the_seed() -> None:
    assert new_york() is new_york()
    assert new_york().starts_cdf.shape == (5, len(new_york().names))
    assert (new_york().ends_cdf[..., -1] == 1).all()

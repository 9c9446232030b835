"""Every method gives what comparing every trip with every other gives, wherever on Earth."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.trips.return_trips import METHODS, geometry_of
from tests.brute_force import gaps_m
from tests.made_trips import apart, trips_frame, worlds
from tests.real_trips import PAIRS_OF_REAL_DAY, TRIPS_OF_REAL_DAY, trips_of_real_day

WINDOW_US = 8 * 3600 * 10**6
# A metre, the project's own, and radii that are more than the data, a continent and the Earth.
RADII_M = (1, 200, 20_000, 3_000_000, 21_000_000)


def pairs(method: str, trips: DataFrame, radius_m: float) -> DataFrame:
    sides = geometry_of(trips), geometry_of(trips)
    return METHODS[method](*sides, radius_m=radius_m, window_us=WINDOW_US)


@pytest.mark.slow
@pytest.mark.parametrize("radius_m", RADII_M)
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_methods_agree_with_brute_force(
    spark: SparkSession, radius_m: int, data: st.DataObject
) -> None:
    # Many worlds in one table, because a Spark job costs the same for one world as for fifty.
    many = data.draw(st.lists(worlds(radius_m, WINDOW_US), min_size=40, max_size=60))
    trips = apart(many, WINDOW_US)
    gaps = gaps_m(trips, WINDOW_US)
    frame = trips_frame(spark, trips).localCheckpoint()
    rows = {
        method: [tuple(row) for row in pairs(method, frame, radius_m).collect()]
        for method in METHODS
    }
    for method, mine in rows.items():
        ids = [row[:2] for row in mine]
        assert len(set(ids)) == len(ids), f"{method} gave a pair twice"
        # Sines differ by an ulp between Java and numpy: closer to the radius than a micrometre
        # either answer is right.
        doubtful = {k for k, gap in gaps.items() if abs(gap - radius_m) <= 1e-6}
        expected = {k for k, gap in gaps.items() if gap < radius_m}
        assert set(ids) - doubtful == expected - doubtful, method
        # The methods agree with each other to the last bit, doubtful pairs included.
        assert sorted(mine) == sorted(rows["naive"]), method


@pytest.fixture(scope="module")
def real_day(spark: SparkSession, shared_data: Path) -> DataFrame:
    """The trips of 1 December 2015, as `geometry_of` has them."""
    trips = geometry_of(trips_of_real_day(spark, shared_data))
    return trips.repartition(8).localCheckpoint()


@pytest.mark.slow
@pytest.mark.usefixtures("generated_code")
@pytest.mark.parametrize("method", ["bucketed", "native"])
def test_the_real_day_gives_the_reference_counts(real_day: DataFrame, method: str) -> None:
    assert real_day.count() == TRIPS_OF_REAL_DAY
    found = METHODS[method](real_day, real_day, radius_m=200.0, window_us=WINDOW_US)
    gap_m = F.greatest("dropoff_gap_m", "pickup_gap_m")
    counts = found.agg(*(F.count_if(gap_m < r).alias(str(r)) for r in PAIRS_OF_REAL_DAY)).head()
    assert counts is not None
    assert counts.asDict() == {str(r): n for r, n in PAIRS_OF_REAL_DAY.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("generated_code")
def test_methods_agree_on_a_part_of_the_real_day(real_day: DataFrame) -> None:
    # Every tenth trip, because h3 and sedona take a minute for the whole day on a warm JVM.
    part = real_day.where(F.pmod(F.xxhash64("trip_id"), F.lit(10)) == 0).localCheckpoint()
    found = {
        method: METHODS[method](part, part, radius_m=200.0, window_us=WINDOW_US).agg(
            F.count(F.lit(1)), F.bit_xor(F.xxhash64("*"))
        )
        for method in sorted(set(METHODS) - {"naive"})
    }
    rows = {method: tuple(frame.collect()[0]) for method, frame in found.items()}
    assert rows["bucketed"][0] > 10_000
    assert set(rows.values()) == {rows["bucketed"]}, rows

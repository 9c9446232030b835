"""The JVM kernel where it must cut: many tiles, crowds, both sides apart, the whole real day."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.peers import c_peer
from pipelines.trips.return_trips import native
from pipelines.trips.return_trips.predicate import PAIR_COLUMNS
from schemas.frames import frame_of
from udfs.geometry import haversine_m
from udfs.native import JAR_NAME, jar_path

pytestmark = [
    pytest.mark.usefixtures("generated_code"),
    pytest.mark.skipif(jar_path() is None, reason=f"{JAR_NAME} is not compiled: run `make scala`"),
    pytest.mark.skipif(c_peer.compiler() is None, reason="no C compiler for the C peer"),
]

WINDOW_US = timedelta(hours=8) // timedelta(microseconds=1)
DAY_US = 3 * WINDOW_US
COLUMNS = ("pickup", "dropoff", "pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")


def made(spark: SparkSession, trips: int, lat: float, lon: float, spread: float) -> DataFrame:
    """Trips of two days between random points round a place, a hundredth of them in one spot.

    At longitudes beyond 180 degrees the points lie on both sides of the antimeridian.
    """

    def point(seed: int) -> tuple[object, object]:
        # The crowd: every hundredth trip begins and ends within some ten metres of the place.
        wide = F.when(F.col("id") % 100 == 0, spread / 1000).otherwise(spread)
        north = F.lit(lat) + (F.rand(seed) - 0.5) * wide
        round_the_pole = 900 if lat > 89 else 1
        east = F.lit(lon) + (F.rand(seed + 1) - 0.5) * wide * round_the_pole
        return F.least(north, F.lit(90.0)), F.pmod(east + 180, F.lit(360.0)) - 180

    (a, b), (c, d) = point(1), point(3)
    start = (F.rand(5) * 2 * DAY_US).cast("bigint")
    table = spark.range(trips, numPartitions=3).select(
        F.col("id").alias("trip_id"),
        start.alias("pickup_us"),
        (start + (F.rand(6) * 3e9).cast("bigint")).alias("dropoff_us"),
        a.alias("pickup_lat"),  # type: ignore[attr-defined]
        b.alias("pickup_lon"),  # type: ignore[attr-defined]
        c.alias("dropoff_lat"),  # type: ignore[attr-defined]
        d.alias("dropoff_lon"),  # type: ignore[attr-defined]
    )
    return table.localCheckpoint()


def by_the_peer(trips: DataFrame, radius_m: float) -> set[tuple[int, int]]:
    table = trips.toPandas()
    columns = {n: table[c].to_numpy() for n, c in zip(COLUMNS, trips.columns[1:], strict=True)}
    count, _, _ = c_peer.return_trips(columns, radius_m=radius_m, window=WINDOW_US)
    _, a, b = c_peer.return_trips(columns, radius_m=radius_m, window=WINDOW_US, pairs=count)
    ids = table["trip_id"].to_numpy()
    return set(zip(ids[a].tolist(), ids[b].tolist(), strict=True))


def by_the_kernel(outbound: DataFrame, inbound: DataFrame, radius_m: float) -> DataFrame:
    return native.pairs(outbound, inbound, radius_m=radius_m, window_us=WINDOW_US)


def ids(pairs: DataFrame) -> set[tuple[int, int]]:
    table = pairs.select("trip_id", "return_trip_id").toPandas()
    found = list(zip(table["trip_id"].tolist(), table["return_trip_id"].tolist(), strict=True))
    assert len(found) == len(set(found))  # each pair once, whatever the tiles
    return set(found)


@pytest.mark.parametrize(
    ("lat", "lon", "spread"),
    [
        pytest.param(40.75, -73.98, 0.05, id="city"),
        pytest.param(-17.0, 180.0, 0.05, id="antimeridian", marks=pytest.mark.slow),
        pytest.param(89.8, 0.0, 0.4, id="pole", marks=pytest.mark.slow),
    ],
)
def test_many_tiles_give_the_peers_pairs(
    spark: SparkSession, lat: float, lon: float, spread: float
) -> None:
    # 120 000 trips are more than two tiles hold at least, so the sample cuts space and time.
    trips = made(spark, 120_000, lat, lon, spread)
    expected = by_the_peer(trips, 60.0)
    assert len(expected) > 10_000
    assert ids(by_the_kernel(trips, trips, 60.0)) == expected


def test_a_disc_near_a_pole_that_meets_itself_finds_a_pair_once(spark: SparkSession) -> None:
    """At the seam, opposite most trips, where all inbound trips end on one meridian."""
    hour = 3_600_000_000

    def trip(number: int, start: int, km: float, lon: float) -> tuple[object, ...]:
        lat = 90 - km / 111.195
        return number, start, start + hour, lat, lon, lat, lon

    schema = "trip_id BIGINT, pickup_us BIGINT, dropoff_us BIGINT, pickup_lat DOUBLE, "
    schema += "pickup_lon DOUBLE, dropoff_lat DOUBLE, dropoff_lon DOUBLE"
    outbound = [trip(1, 0, 2.0, 0.0), *(trip(n, 0, 4.0, 180.0) for n in range(2, 7))]
    inbound = frame_of(spark, [trip(9, 2 * hour, 2.0, 0.0)], schema)
    assert ids(by_the_kernel(frame_of(spark, outbound, schema), inbound, 200.0)) == {(1, 9)}


def test_counting_partitions_and_sides_change_nothing(spark: SparkSession) -> None:
    trips = made(spark, 20_000, 40.75, -73.98, 0.05)
    pairs = by_the_kernel(trips, trips, 100.0)
    expected = ids(pairs)
    assert pairs.count() == len(expected)
    shuffled = trips.repartition(7, "dropoff_lat")
    assert ids(by_the_kernel(shuffled, shuffled, 100.0)) == expected
    # Two tables that are not the same: the sides are read apart, and some trips have one role.
    early = trips.where(F.col("dropoff_us") < DAY_US)
    dropoffs = {r[0]: r[1] for r in trips.select("trip_id", "dropoff_us").collect()}
    assert ids(by_the_kernel(early, trips, 100.0)) == {
        p for p in expected if dropoffs[p[0]] < DAY_US
    }


def test_gaps_are_those_of_the_columns_to_the_last_bit(spark: SparkSession) -> None:
    trips = made(spark, 5_000, 40.75, -73.98, 0.02)
    pairs = by_the_kernel(trips, trips, 150.0)
    assert pairs.columns == list(PAIR_COLUMNS)
    a = trips.select(*(F.col(c).alias(f"a_{c}") for c in trips.columns))
    b = trips.select(*(F.col(c).alias(f"b_{c}") for c in trips.columns))
    joined = pairs.join(a, F.col("trip_id") == F.col("a_trip_id")).join(
        b, F.col("return_trip_id") == F.col("b_trip_id")
    )

    def gap(x: str, y: str) -> object:
        return haversine_m(*(F.col(f"{p}_{c}") for p in (x, y) for c in ("lat", "lon")))

    wrong = joined.where(
        (F.col("dropoff_gap_m") != gap("a_dropoff", "b_pickup"))
        | (F.col("pickup_gap_m") != gap("a_pickup", "b_dropoff"))
        | (F.col("dropoff_us") != F.col("a_dropoff_us"))
        | (F.col("wait_us") != F.col("b_pickup_us") - F.col("a_dropoff_us"))
    )
    assert pairs.count() > 1_000
    assert wrong.count() == 0


def test_counting_computes_no_gaps(spark: SparkSession) -> None:
    trips = made(spark, 120_000, 40.75, -73.98, 0.2)
    counted = by_the_kernel(trips, trips, 100.0).groupBy().count()
    counted.collect()
    plan = counted._jdf.queryExecution().executedPlan().toString()
    lines = [x for x in plan.splitlines() if "ReturnTripJoin" in x]
    assert lines  # adaptive execution shows its first and its final plan
    assert not any("gap_m" in x for x in lines)


def test_rows_that_sql_would_pair_with_nothing_are_left_out(spark: SparkSession) -> None:
    schema = "trip_id long, pickup_us long, dropoff_us long, " + ", ".join(
        f"{c} double" for c in ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")
    )
    good: list[tuple[float | None, ...]] = [
        (1, 0, 10, 1.0, 2.0, 3.0, 4.0),
        (2, 20, 30, 3.0, 4.0, 1.0, 2.0),
    ]
    bad: list[tuple[float | None, ...]] = [
        (3, 20, 30, 3.0, float("nan"), 1.0, 2.0),
        (4, 20, None, 3.0, 4.0, 1.0, 2.0),
    ]
    trips = frame_of(spark, good + bad, schema)
    assert ids(by_the_kernel(trips, trips, 50.0)) == {(1, 2)}
    alone = trips.where("trip_id = 1")
    assert ids(by_the_kernel(alone, alone, 50.0)) == set()


@pytest.mark.slow
def test_the_real_day_gives_the_published_counts(spark: SparkSession, shared_data: Path) -> None:
    raw = spark.read.csv(
        str(shared_data / "trips" / "nyc_yellow_green_2015-12-01.csv.gz"),
        header=True,
        inferSchema=True,
    )
    box = " AND ".join(
        f"{end}_latitude BETWEEN 40 AND 42 AND {end}_longitude BETWEEN -75 AND -72"
        for end in ("pickup", "dropoff")
    )
    trips = (
        raw.where(box)
        .select(
            F.monotonically_increasing_id().alias("trip_id"),
            F.unix_micros(F.col("pickup_datetime").cast("timestamp")).alias("pickup_us"),
            F.unix_micros(F.col("dropoff_datetime").cast("timestamp")).alias("dropoff_us"),
            F.col("pickup_latitude").alias("pickup_lat"),
            F.col("pickup_longitude").alias("pickup_lon"),
            F.col("dropoff_latitude").alias("dropoff_lat"),
            F.col("dropoff_longitude").alias("dropoff_lon"),
        )
        .where("dropoff_us - pickup_us >= 0 AND dropoff_us - pickup_us < 86400000000")
        .localCheckpoint()
    )
    assert trips.count() == 411_683
    counts = {r: by_the_kernel(trips, trips, r).count() for r in (50.0, 100.0, 150.0, 200.0)}
    assert counts == {50.0: 47_731, 100.0: 212_676, 150.0: 679_742, 200.0: 1_857_720}
    table = trips.toPandas()
    columns = {n: table[c].to_numpy() for n, c in zip(COLUMNS, trips.columns[1:], strict=True)}
    for radius_m, count in counts.items():
        assert c_peer.return_trips(columns, radius_m=radius_m, window=WINDOW_US)[0] == count
    assert np.all(table["dropoff_us"] >= table["pickup_us"])

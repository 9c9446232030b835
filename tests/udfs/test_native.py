"""The SQL functions of the JVM half give the same bits as their twins in pure columns."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.frames import frame_of
from udfs import geometry, native

pytestmark = [
    pytest.mark.usefixtures("generated_code"),
    pytest.mark.skipif(
        native.jar_path() is None, reason=f"{native.JAR_NAME} is not compiled: run `make scala`"
    ),
]

SIDES_M = (1.0, 100.0, 400.0, 25_000.0, 12_000_000.0)
RADII_M = (0.5, 50.0, 200.0, 30_000.0, 11_000_000.0)


@pytest.fixture(scope="module")
def sql(spark: SparkSession) -> SparkSession:
    """The shared session with the functions added, as `spark.sql.extensions` would add them."""
    native.register_functions(spark)
    return spark


@pytest.fixture(scope="module")
def places(sql: SparkSession) -> DataFrame:
    """2 000 random pairs of points on the whole sphere, and the corners of the map."""
    corners = [
        (a, b, c, d)
        for a, b in ((90.0, 0.0), (-90.0, 180.0), (0.0, 0.0), (-0.0, -180.0), (45.0, 359.5))
        for c, d in ((90.0, 12.0), (-90.0, -180.0), (0.0, 180.0), (89.9999, -540.0))
    ]
    known = frame_of(sql, corners, "lat double, lon double, lat_2 double, lon_2 double")
    random = sql.range(2000).select(
        (F.rand(1) * 180 - 90).alias("lat"),
        (F.rand(2) * 360 - 180).alias("lon"),
        (F.rand(3) * 180 - 90).alias("lat_2"),
        (F.rand(4) * 360 - 180).alias("lon_2"),
    )
    return known.union(random).cache()


def bits(value: object) -> object:
    return struct.pack(">d", value) if isinstance(value, float) else value


def assert_twins(places: DataFrame, **twins: tuple[str, Column]) -> None:
    """Each expression in SQL gives what its twin gives, in generated code and on every row."""
    found = places.select(
        *(F.expr(sql).alias(f"{name}_sql") for name, (sql, _) in twins.items()),
        *(twin.alias(f"{name}_twin") for name, (_, twin) in twins.items()),
    )
    for row in found.collect():
        for name in twins:
            assert bits(row[f"{name}_sql"]) == bits(row[f"{name}_twin"]), (name, row)


def test_haversine_is_the_twin_to_the_last_bit(places: DataFrame) -> None:
    lat, lon, lat_2, lon_2 = map(F.col, ("lat", "lon", "lat_2", "lon_2"))
    assert_twins(
        places,
        far=("haversine_m(lat, lon, lat_2, lon_2)", geometry.haversine_m(lat, lon, lat_2, lon_2)),
        near=(
            "haversine_m(lat, lon, lat + lat_2 * 1e-5, lon + lon_2 * 1e-5)",
            geometry.haversine_m(lat, lon, lat + lat_2 * 1e-5, lon + lon_2 * 1e-5),
        ),
    )


def test_a_quarter_of_the_way_round_is_a_quarter_of_the_circumference(sql: SparkSession) -> None:
    (row,) = sql.sql(
        "SELECT haversine_m(0, 0, 90, 0) AS d, haversine_m(NULL, 0, 1, 1) AS n"
    ).collect()
    assert row["d"] == pytest.approx(3.141592653589793 / 2 * 6_371_000, rel=1e-15)
    assert row["n"] is None


@pytest.mark.parametrize("side_m", SIDES_M)
def test_cells_are_the_twins(places: DataFrame, side_m: float) -> None:
    lat, lon = F.col("lat"), F.col("lon")
    row = geometry.lat_idx(lat, side_m)
    round_ = geometry.cells_round(row, side_m)
    index = geometry.lon_idx(lon, round_)
    row_sql = f"lat_idx(lat, {side_m}D)"
    round_sql = f"cells_round({row_sql}, {side_m}D)"
    assert_twins(
        places,
        lat_degrees=(f"lat_degrees({side_m}D)", F.lit(geometry.lat_degrees(side_m))),
        lat_idx=(row_sql, row),
        cells_round=(round_sql, round_),
        lon_idx=(f"lon_idx(lon, {round_sql})", index),
        cell_id=(f"cell_id({row_sql}, lon_idx(lon, {round_sql}))", geometry.cell_id(row, index)),
        cell_of=(f"cell_of(lat, lon, {side_m}D)", geometry.cell_of(lat, lon, side_m)),
    )


@pytest.mark.parametrize("radius_m", RADII_M)
def test_ranges_are_the_twins(places: DataFrame, radius_m: float) -> None:
    lat, lon, side_m = F.col("lat"), F.col("lon"), 400.0
    round_ = geometry.cells_round(geometry.lat_idx(lat, side_m), side_m)
    rows = geometry.lat_idx_range(lat, radius_m, side_m)
    columns = geometry.lon_idx_range(lat, lon, radius_m, round_)
    rows_sql = f"lat_idx_range(lat, {radius_m}D, {side_m}D)"
    round_sql = f"cells_round(lat_idx(lat, {side_m}D), {side_m}D)"
    columns_sql = f"lon_idx_range(lat, lon, {radius_m}D, {round_sql})"
    assert_twins(
        places,
        widened=(f"widened_m({radius_m}D)", F.lit(geometry.widened_m(radius_m))),
        half=(
            f"lon_half_width_degrees(lat, {radius_m}D)",
            geometry.lon_half_width_degrees(lat, radius_m),
        ),
        first_row=(f"{rows_sql}.first", rows[0]),
        last_row=(f"{rows_sql}.last", rows[1]),
        first_column=(f"{columns_sql}.first", columns[0]),
        last_column=(f"{columns_sql}.last", columns[1]),
    )


def test_it_runs_inside_generated_code(places: DataFrame) -> None:
    plan = places.select(F.expr("haversine_m(lat, lon, lat_2, lon_2)").alias("d"))
    text = plan._jdf.queryExecution().explainString(
        plan.sparkSession._jvm.org.apache.spark.sql.execution.ExplainMode.fromString("codegen")  # type: ignore[union-attr]
    )
    assert "roundtrip.Cells.haversine(" in text


def test_functions_describe_themselves_and_their_examples_are_true(sql: SparkSession) -> None:
    for name in ("haversine_m", "lat_idx_range", "cells_round", "lon_idx_range", "cell_id"):
        text = "\n".join(
            r[0] for r in sql.sql(f"DESCRIBE FUNCTION EXTENDED {name}").collect()
        ).splitlines()
        example = next(i for i, line in enumerate(text) if line.strip().startswith("> "))
        query, expected = text[example].strip()[2:].rstrip(";"), text[example + 1].strip()
        (row,) = sql.sql(f"SELECT to_json(struct(({query}) AS v)) AS j").collect()
        assert row["j"] == f'{{"v":{expected}}}'


def test_a_wrong_number_of_arguments_is_refused(sql: SparkSession) -> None:
    with pytest.raises(Exception, match="WRONG_NUM_ARGS"):
        sql.sql("SELECT haversine_m(1, 2, 3)").collect()


def test_the_jar_is_found(spark: SparkSession) -> None:
    assert native.is_available(spark)
    assert Path(str(native.jar_path())).name == native.JAR_NAME

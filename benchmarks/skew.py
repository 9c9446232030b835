"""`python -m benchmarks.skew`: what one crowded place does to a join.

A day of trips with and without a crowd: trips to and fro between two street corners, so many that
their cell holds far more than a hundred times the trips of the median cell. For each method the
pairs, the time, and how the tasks of the longest stage share its work: a task that held the crowd
alone would leave the other cores idle to the end. Spark has 1 GB, so that memory would be missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.data import made_days, real_days, write_trips
from benchmarks.plain_grid import WINDOW_US
from benchmarks.report import RESULTS, write_json
from jobs.session import open_session
from pipelines.trips.return_trips import METHODS
from pipelines.trips.return_trips.bucketed import keyed_sides

RADIUS_M = 200.0
# Penn Station and La Guardia, each trip begun and ended within some 60 m of the corner.
_CORNERS = ((40.7506, -73.9935), (40.7769, -73.8740))
_SPREAD_DEG = 60 / 111_195


def main(argv: list[str] | None = None) -> int:
    made = argparse.ArgumentParser(prog="python -m benchmarks.skew", description=__doc__)
    made.add_argument("--crowd", type=int, default=10_000, help="trips in the crowd")
    made.add_argument("--methods", default="native,bucketed", help="default native,bucketed")
    made.add_argument("--data", help="folder that keeps the data for the next run")
    args = made.parse_args(argv)
    folder = Path(args.data or tempfile.mkdtemp(prefix="roundtrip-skew-"))
    folder.mkdir(parents=True, exist_ok=True)
    plain = real_days(1, folder) or made_days(1, folder)
    day = _add_crowd(pd.read_parquet(plain), args.crowd)
    crowded = write_trips({str(c): day[c] for c in day}, folder / f"crowd_{args.crowd}.parquet")
    spark = open_session("roundtrip skew", {"spark.driver.memory": "1g"})
    spark.sparkContext.setLogLevel("ERROR")
    rows = []
    for name, path in (("plain", plain), ("crowded", crowded)):
        median, largest = _trips_per_cell(spark.read.parquet(str(path)))
        print(f"{name}: trips in a cell: median {median}, most {largest}", file=sys.stderr)
        for method in args.methods.split(","):
            row = {
                "data": name,
                "method": method,
                "median_in_cell": median,
                "most_in_cell": largest,
            }
            rows.append(row | _measure(spark, method, path))
    spark.stop()
    write_json(RESULTS, "skew", {"results": rows})
    (RESULTS / "skew.md").write_text(_markdown(rows))
    print(_markdown(rows))
    return 0


def _add_crowd(day: pd.DataFrame, trips: int) -> pd.DataFrame:
    """The day, and as many trips to as fro between the corners, evenly over the day."""
    rng = np.random.default_rng(11)
    start = rng.integers(day["pickup_us"].min(), day["pickup_us"].min() + 86_400 * 10**6, trips)
    outward = (np.arange(trips) % 2).astype(bool)
    ends = {}
    for end, there in (("pickup", outward), ("dropoff", ~outward)):
        for i, c in enumerate(("lat", "lon")):
            at = np.where(there, _CORNERS[0][i], _CORNERS[1][i])
            ends[f"{end}_{c}"] = at + rng.uniform(-_SPREAD_DEG, _SPREAD_DEG, trips)
    crowd = {
        "trip_id": np.arange(trips) + day["trip_id"].max() + 1,
        "pickup_us": start,
        "dropoff_us": start + 1500 * 10**6,
        **ends,
    }
    return pd.concat([day, pd.DataFrame(crowd)], ignore_index=True)


def _trips_per_cell(trips: DataFrame) -> tuple[int, int]:
    """Returns under one key of the bucketed join: the median, and the most."""
    _, b = keyed_sides(trips, trips, radius_m=RADIUS_M, window_us=WINDOW_US)
    counts = b.groupBy("b_place_1", "b_place_2", "b_time_idx").count()
    row = counts.agg(F.percentile("count", 0.5), F.max("count")).head()
    assert row is not None
    return int(row[0]), int(row[1])


def _measure(spark: SparkSession, method: str, path: Path) -> dict[str, Any]:
    store = spark.sparkContext._jsc.sc().statusStore()

    def run() -> tuple[int, float]:
        trips = spark.read.parquet(str(path))
        start = time.perf_counter()
        n = METHODS[method](trips, trips, radius_m=RADIUS_M, window_us=WINDOW_US).count()
        return n, time.perf_counter() - start

    run()  # warm-up
    time.sleep(1)  # Spark's own record of jobs lags behind
    last_job = store.jobsList(None).head().jobId()
    pairs, seconds = run()
    time.sleep(1)
    tasks = _longest_stage(store, last_job)
    return {
        "pairs": pairs,
        "seconds": round(seconds, 2),
        "tasks": len(tasks),
        "task_median_s": statistics.median(tasks),
        "task_p90_s": round(float(np.quantile(tasks, 0.9)), 3),
        "task_longest_s": max(tasks),
        "stage_work_s": round(sum(tasks), 2),
    }


def _longest_stage(store: Any, after_job: int) -> list[float]:
    """Seconds of each task in the stage with the most work, among the jobs after that one."""
    jobs = _elements(store.jobsList(None))
    stages = {i for job in jobs if job.jobId() > after_job for i in _elements(job.stageIds())}
    best: list[float] = []
    for stage in stages:
        attempt = store.lastStageAttempt(stage).attemptId()
        metrics = [t.taskMetrics() for t in _elements(store.taskList(stage, attempt, 100_000))]
        seconds = [m.get().executorRunTime() / 1e3 for m in metrics if m.isDefined()]
        best = max(best, seconds, key=sum)
    return best


def _elements(of: Any) -> list[Any]:
    """A Scala sequence as a list."""
    return [of.apply(i) for i in range(of.size())]


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| day | method | trips in a cell: median, most | pairs | s | tasks "
        "| task s: median, 90 %, longest | work of the stage, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in rows:
        lines.append(
            f"| {r['data']} | {r['method']} | {r['median_in_cell']}, {r['most_in_cell']} "
            f"| {r['pairs']:,} | {r['seconds']:.2f} | {r['tasks']} | {r['task_median_s']:.2f}, "
            f"{r['task_p90_s']:.2f}, {r['task_longest_s']:.2f} | {r['stage_work_s']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

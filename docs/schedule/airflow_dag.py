"""The trips every night under Airflow: the same jobs that cron and Dagster start.

Copy it into Airflow's folder of DAGs. Needs apache-airflow 3 with the provider apache-spark, a
connection `spark_default` (for one machine: host `local[*,4]`), and the variables below in the
environment of Airflow's workers.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

ROUNDTRIP = os.environ.get("ROUNDTRIP", "/opt/roundtrip")
LAKE = os.environ.get("LAKE", "/data/lake")
LANDING = os.environ.get("LANDING", "/data/landing")
DOCS = os.environ.get("QUALITY_DOCS", "/data/quality")

# Pairs of the last days are checked. Which trips are joined, the trips themselves say: those that
# came, and those before them that they may be returns of.
SINCE = ["--start", "{{ logical_date.in_timezone('America/New_York').subtract(days=2) | ds }}"]


def job(name: str, *arguments: str, step: str | None = None) -> SparkSubmitOperator:
    """One of the project's jobs. Exit code 3, data refused, fails like any other."""
    return SparkSubmitOperator(
        task_id=step or name,
        application=f"{ROUNDTRIP}/jobs/{name}.py",
        application_args=[*arguments, "--lake", LAKE],
        env_vars={"RUN_ID": "{{ run_id }}-{{ task.task_id }}-{{ ti.try_number }}"},
        pool="default_pool",
    )


with DAG(
    "roundtrip",
    description="Landed trip files become checked tables of return trips",
    schedule="30 5 * * *",
    start_date=datetime(2015, 12, 1),
    catchup=False,
    max_active_runs=1,  # one Spark job at a time: each takes all cores
    max_active_tasks=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
):
    ingest = job("ingest_trips", LANDING)
    pairs = job("return_trips", "--gate", "--incremental", "--docs", DOCS)
    check = job("check_quality", "gold.return_trips", *SINCE, "--docs", DOCS, step="check_pairs")
    ingest >> pairs >> check

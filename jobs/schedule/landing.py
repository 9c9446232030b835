"""What starts runs: files that land, days that have come, and the clock."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import dagster as dg

from jobs.schedule.assets import DAYS, FIRST_DAY, ingest, key, return_trips
from pipelines.trips.sources import DATA_ENDINGS
from schemas import RETURN_TRIPS, TRIPS

# A file that changed a moment ago may still be on its way.
SETTLED_S = 10

# Trips that began just before midnight bring a few to the day before or after: such a day is not
# the file's.
_LEAST_SHARE = 0.01

# Ingestions that are looked at in one go.
_FILES = 100

ingest_job = dg.define_asset_job(
    "ingest_landed_file",
    dg.AssetSelection.assets(ingest),
    description="One file into bronze and silver, with a check of what was rejected.",
)
day_job = dg.define_asset_job(
    "return_trips_of_a_day",
    dg.AssetSelection.assets(return_trips),
    description="A day's trips are checked, their return trips found, and those checked.",
)


@dg.sensor(
    job=ingest_job, minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING
)
def landed_files(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """A run for each file in the landing folder; a file that was replaced is another file."""
    folder = Path(os.environ.get("LANDING", "landing"))
    if not folder.is_dir():
        yield dg.SkipReason(f"no folder {folder.resolve()}: make it, or set LANDING to another")
        return
    settled = time.time() - SETTLED_S
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_hidden = any(part.startswith((".", "_")) for part in name.parts)
        if is_hidden or not path.name.lower().endswith(DATA_ENDINGS) or not path.is_file():
            continue
        found = path.stat()
        if found.st_mtime <= settled:
            config = {"ops": {"ingest": {"config": {"path": str(path.resolve())}}}}
            yield dg.RunRequest(
                run_key=f"{name}:{found.st_size}:{found.st_mtime_ns}", run_config=config
            )


# Not `asset_sensor`, which is told of the latest of several files between two looks alone.
@dg.sensor(job=day_job, minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING)
def days_that_came(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """The days of each ingested file, and their neighbours whose pairs it may have changed.

    A day that has not ended is no partition yet. The cursor keeps it, with the run that brought it,
    after the number of the last ingestion that was looked at: `17 2015-12-01=RUN`.
    """
    seen, *kept = (context.cursor or "0").split()
    waiting = dict(day.split("=", 1) for day in kept)
    ingested = dg.AssetRecordsFilter(asset_key=key(TRIPS), after_storage_id=int(seen))
    found = context.instance.fetch_materializations(ingested, limit=_FILES, ascending=True)
    done = context.instance.get_materialized_partitions(key(RETURN_TRIPS))
    for record in found.records:
        materialization = record.asset_materialization
        days = materialization.metadata.get("days") if materialization else None
        for day in partitions_of(days.value, done) if days else ():  # type: ignore[arg-type]
            if DAYS.has_partition_key(day):
                yield dg.RunRequest(run_key=f"{record.run_id}:{day}", partition_key=day)
            elif day >= FIRST_DAY:
                waiting[day] = record.run_id
        seen = str(record.storage_id)
    for day in sorted(filter(DAYS.has_partition_key, waiting)):
        yield dg.RunRequest(run_key=f"{waiting.pop(day)}:{day}", partition_key=day)
    context.update_cursor(" ".join([seen, *(f"{day}={waiting[day]}" for day in sorted(waiting))]))


def partitions_of(trips_by_day: Mapping[str, int], done: set[str]) -> list[str]:
    """The partitions to run for a file with so many trips on each day; `done` were run before.

    Of the neighbours those that are done: trips of the day before may find their returns in this
    file, and trips of this file that ended after midnight are the next day's.
    """
    most = max(trips_by_day.values(), default=0)
    came = {d for d, n in trips_by_day.items() if n >= _LEAST_SHARE * most and d >= FIRST_DAY}
    near = {
        str(date.fromisoformat(d) + timedelta(days=n)) for d in trips_by_day for n in (-1, 0, 1)
    }
    return sorted(came | (near & done))


daily = dg.build_schedule_from_partitioned_job(
    day_job, name="yesterday", hour_of_day=6, default_status=dg.DefaultScheduleStatus.STOPPED
)

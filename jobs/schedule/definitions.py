"""What Dagster loads: `dagster dev -m jobs.schedule.definitions`, or `make schedule`."""

from __future__ import annotations

import dagster as dg

from jobs.schedule.assets import ingest, return_trips
from jobs.schedule.figures import figures_job, ingest_figures, landed_figures, prepare_captions
from jobs.schedule.landing import daily, day_job, days_that_came, ingest_job, landed_files

definitions = dg.Definitions(
    assets=[ingest, return_trips, ingest_figures, prepare_captions],
    jobs=[ingest_job, day_job, figures_job],
    schedules=[daily],
    sensors=[landed_files, days_that_came, landed_figures],
)

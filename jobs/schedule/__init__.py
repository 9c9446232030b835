"""The jobs on a schedule: Dagster's assets, checks, sensors. Needs the extra `schedule`."""

"""`spark-submit jobs/X.py`: parse arguments, open a session, call a pipeline, write, report."""

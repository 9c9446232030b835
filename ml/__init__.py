"""Training from tables: models, recipes, the feed, training, checkpoints, evaluation.

Nothing here knows Spark but `ml.training.launch`, which starts processes through it, and what a
job hands in; `jobs/` holds the jobs.
"""

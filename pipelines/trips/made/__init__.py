"""Made trips: days of taxi trips in a New York that has the real one's shape. Made, not real.

`city` is the ground (outlines, street grid, neighbourhoods, addresses), `day` draws one day's
trips on it, `dirt` breaks rows in every way that ingestion knows, and `files` writes a day as the
city publishes it. Nothing here needs Spark.
"""

"""From one pinned version of a Delta table to batches, in the training process, without Spark.

`table` finds the version's files and rows, `order` says which examples make which global batch,
`examples` reads them as they are stored, `feed` makes batches of them.
"""

from ml.feed.feed import Feed, Step
from ml.feed.table import PinnedTable, open_table

__all__ = ["Feed", "PinnedTable", "Step", "open_table"]

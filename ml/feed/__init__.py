"""From one pinned version of a Delta table to batches, in the training process, without Spark.

`table` is the version's files and what is deleted in them, `store` how they are read and cached,
`index` the rows that are for training, `order` which of them make which global batch, `encoded` a
rank's part of each as it is stored, `texts` its texts as ids, which `token_ids` may hold already,
`steps` that part as tensors, `feed` the thread that makes them ahead of the training.
"""

from ml.feed.feed import Feed, Step
from ml.feed.index import TEST, TRAIN, VALIDATION
from ml.feed.table import PinnedTable, open_table
from ml.feed.token_ids import TokenIds, read_token_ids

__all__ = [
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Feed",
    "PinnedTable",
    "Step",
    "TokenIds",
    "open_table",
    "read_token_ids",
]

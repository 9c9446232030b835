"""From examples and their pairs to silver.figure_groups."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame

from pipelines.figures.best_of_group import best_of_group
from pipelines.figures.splits import SHARES, assign_splits
from schemas.figures import FIGURE_GROUPS

EXAMPLE = (
    "example_id BIGINT, figure_id BIGINT, part INT, revision BIGINT, source STRING, format STRING, "
    "sha256 STRING, article_id STRING, patient_id STRING, delivered_at TIMESTAMP, "
    "source_width INT, source_height INT, caption STRING"
)
"""What `groups_of` and `pairs_of` need of an example, beside its image and perceptual hash."""


def groups_of(
    examples: DataFrame,
    pairs: DataFrame,
    earlier: DataFrame | None = None,
    *,
    shares: Sequence[float] = SHARES,
) -> DataFrame:
    """Rows of silver.figure_groups: one for each of `examples`, in the columns of `EXAMPLE`.

    `pairs` are all of silver.figure_pairs, `earlier` is silver.figure_groups as it was. See
    `pipelines.figures.splits` for how a split is kept, `best_of_group` for what a copy is.
    Raises UsageError for shares that are not shares.
    """
    split = assign_splits(examples, pairs, earlier, shares=shares).localCheckpoint()
    judged = examples.join(split, "example_id")
    best = best_of_group(judged, pairs)
    return FIGURE_GROUPS.conform(
        judged.join(best, "example_id").select(*(c.name for c in FIGURE_GROUPS.columns))
    )

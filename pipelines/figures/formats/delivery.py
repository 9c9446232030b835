"""What every format gives: rows that were read, and a way to their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame

from pipelines.figures.delivered.limits import Limits

# Shards that are committed together: enough for all cores, little enough that a kill loses minutes.
_BATCH_BYTES = 4 << 30
_BATCH_UNITS = 64


@dataclass(frozen=True)
class Request:
    """What is asked for: the delivery's place, and what a format may be told.

    `source` is the URL as Hadoop spells it. `columns` maps our column to a name in the list
    (`folder`, `hf-parquet`). `images` are folders and zips where they are not beside the list,
    `reports` the list with the captions of DICOM files.
    """

    source: str
    is_folder: bool
    images: tuple[str, ...] = ()
    encoding: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    reports: str | None = None
    patient_key: bytes | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Delivered:
    """What was read of a source, lazily.

    `rows` have the columns of `delivered.rows.ROW` and may have more, which `with_bytes` needs: it
    gets some of the rows, in all their columns, with the units that they are of, and adds `image`.
    A column `waited_as` names the record as which the caption waited for its image, where that is
    another one than `record`.
    `questions` have the columns of `delivered.rows.QUESTION`. `units` are the lists or shards with
    their sizes in bytes; `images_apart`: images are files of their own, not in that size.
    `captions_apart`: captions may come in another delivery, so a row without one keeps what the
    lake has. `notes` go into the summary.
    """

    rows: DataFrame
    with_bytes: Callable[[DataFrame, Sequence[str]], DataFrame]
    units: Mapping[str, int]
    images_apart: bool = False
    captions_apart: bool = False
    questions: DataFrame | None = None
    notes: tuple[str, ...] = ()

    def batches(self) -> Iterator[list[str]]:
        """Units that are written together: shards up to some GB, lists all at once."""
        batch: list[str] = []
        for unit, size in self.units.items():
            held = sum(self.units[u] for u in batch)
            full = len(batch) == _BATCH_UNITS or held + size > _BATCH_BYTES
            if batch and full and not self.images_apart:
                yield batch
                batch = []
            batch.append(unit)
        if batch:
            yield batch

"""Writes of Delta tables that lost a race against another writer, done again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    MetadataChangedException,
    ProtocolChangedException,
)
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException

_CONFLICTS = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    MetadataChangedException,
    ProtocolChangedException,
)
_ATTEMPTS = 12
_CREATE_ATTEMPTS = 6
_SIGNS_OF_CREATION = (
    "DELTA_METADATA_ABSENT",
    "DELTA_TABLE_NOT_FOUND",
    "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION",
    "already exists",
)


def retried(write: Callable[[], object]) -> None:
    """Run a Delta write again while another writer wins the race for the table's next version."""
    for attempt in range(_ATTEMPTS):
        try:
            write()
            return
        except (*_CONFLICTS, AnalysisException, Py4JJavaError) as e:
            last = _ATTEMPTS if _lost_race(e) else _CREATE_ATTEMPTS if _lost_creation(e) else 0
            if attempt + 1 >= last:
                raise
        time.sleep(random.uniform(0.1, 0.5) * 2 ** min(attempt, 4))
    raise AssertionError("unreachable")


def _lost_race(error: Exception) -> bool:
    # Delta's Python half translates some of these exceptions, and passes others on as Java's.
    names = {type(error).__name__}
    cause = getattr(error, "java_exception", None)
    while cause is not None:
        names.add(cause.getClass().getSimpleName())
        cause = cause.getCause()
    return bool(names & {c.__name__ for c in _CONFLICTS})


def _lost_creation(error: Exception) -> bool:
    """Whether another writer may be making the table: it is there, or half of it."""
    return any(sign in str(error) for sign in _SIGNS_OF_CREATION)

"""Loads return_trips.c: the return trips of numpy columns on one core, without Spark.

A peer for benchmarks and an independent check for tests; it shares no code with the engines.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

SOURCE = Path(__file__).with_name("return_trips.c")

_COLUMNS = ("pickup", "dropoff", "pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")
_TYPES = ("i8", "i8", "f8", "f8", "f8", "f8")

# Metres and slabs of time, measured on 24 days of New York's density, where twice or half of any
# of them costs up to a tenth more.
_CELL_M, _BAND_M, _SLABS_PER_WINDOW = 400.0, 200.0, 2


def compiler() -> str | None:
    """The C compiler, or None where there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@cache
def _library() -> ctypes.CDLL:
    cc = compiler()
    if cc is None:
        raise RuntimeError("no C compiler (cc, gcc or clang): install one for the C peer")
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "return_trips.so")
        # No one reads errno or floating-point traps here; without them loops work on vectors.
        flags = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"]
        flags += ["-shared", "-fPIC"]
        subprocess.run([cc, *flags, "-o", str(built), str(SOURCE), "-lm"], check=True)
        library = ctypes.CDLL(str(built))  # stays loaded when the file is gone
    library.return_trips.restype = ctypes.c_int64
    return library


def read_columns(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The columns that `return_trips` takes, times in microseconds, of a Parquet file of trips."""
    table = pq.read_table(path)
    names = {"pickup": "pickup_us", "dropoff": "dropoff_us"}
    return {c: table[names.get(c, c)].to_numpy() for c in _COLUMNS}


def count(columns: dict[str, npt.NDArray[Any]], radius_m: float, window: int) -> int:
    """The number of pairs alone."""
    return return_trips(columns, radius_m=radius_m, window=window)[0]


def return_trips(
    columns: dict[str, npt.NDArray[Any]], *, radius_m: float, window: int, pairs: int = 0
) -> tuple[int, npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """How many pairs there are, and the first `pairs` of them as row numbers (outbound, return).

    `columns` holds pickup and dropoff (integers, in the unit of `window`) and pickup_lat,
    pickup_lon, dropoff_lat, dropoff_lon (degrees), all of one length. Raises MemoryError, and
    RuntimeError where there is no compiler.
    """
    held = [
        np.ascontiguousarray(columns[c], dtype=t) for c, t in zip(_COLUMNS, _TYPES, strict=True)
    ]
    a, b = np.empty(pairs, np.uint32), np.empty(pairs, np.uint32)
    at = [x.ctypes.data_as(ctypes.c_void_p) for x in [*held, a, b]]
    found = _library().return_trips(
        ctypes.c_int64(len(held[0])),
        *at[:6],
        ctypes.c_double(radius_m),
        ctypes.c_int64(window),
        ctypes.c_int64(pairs),
        *at[6:],
        ctypes.c_double(max(_CELL_M, 2 * radius_m)),
        ctypes.c_double(max(_BAND_M, radius_m)),
        ctypes.c_int64(_SLABS_PER_WINDOW),
    )
    if found == -2:
        raise ValueError("the area is too wide for cells of this size")
    if found < 0:
        raise MemoryError(f"not enough memory for {len(held[0])} trips")
    kept = min(found, pairs)
    return found, a[:kept], b[:kept]

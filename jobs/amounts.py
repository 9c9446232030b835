"""Amounts as arguments of jobs; each raises argparse's error with what to write.

Apart from `jobs.arguments`, which knows trips: processes that make data start often.
"""

from __future__ import annotations

import argparse
import math

_BYTES = {"GB": 10**9, "MB": 10**6, "TB": 10**12, "GiB": 2**30}


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no count: write a whole number above 0")
    return int(text)


def memory_bytes(text: str) -> int:
    """A size of memory such as 40GB, in bytes: MB, GB, TB in powers of ten, GiB of two."""
    for unit, factor in _BYTES.items():
        if text.endswith(unit) and (number := positive(text.removesuffix(unit))):
            return round(number * factor)
    raise argparse.ArgumentTypeError(f"{text!r} is no size of memory: write 40GB or 80GiB")


def positive(text: str) -> float | None:
    """A positive number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def seed(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: write a whole number, 0 or more")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write a number from 0 to 1")
    return found

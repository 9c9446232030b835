"""Keyed hashes in place of identifiers: equal where these were, and of no use without the key.

HMAC-SHA256 (RFC 2104). A plain hash would not do: patients' numbers are few enough to try them all.
"""

from __future__ import annotations

import hmac

MIN_KEY_BYTES = 32
"""The hash's own strength; a key of 32 random bytes in hexadecimal has twice as many."""

MIN_KEY_SYMBOLS = 10

EARLIEST_SHIFT_DAYS = 365
SHIFT_DAYS = 3650


def checked_key(text: str | None) -> bytes:
    """The key as bytes, from what ROUNDTRIP_PATIENT_KEY holds.

    Raises ValueError, without the key in its text, where there is none or it could be guessed:
    less than `MIN_KEY_BYTES` bytes or `MIN_KEY_SYMBOLS` different ones.
    """
    key = (text or "").strip().encode()
    advice = "set it to the output of: openssl rand -hex 32"
    if not key:
        raise ValueError(f"ROUNDTRIP_PATIENT_KEY is not set; {advice}")
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(
            f"ROUNDTRIP_PATIENT_KEY has {len(key)} bytes and needs {MIN_KEY_BYTES}; {advice}"
        )
    if len(set(key)) < MIN_KEY_SYMBOLS:
        raise ValueError(f"ROUNDTRIP_PATIENT_KEY repeats a few characters; {advice}")
    return key


def keyed_hash(key: bytes, kind: str, *values: str) -> str:
    """64 hexadecimal digits for values of a kind; the same value of another kind gives others."""
    message = "\0".join((kind, *values)).encode("utf-8", "backslashreplace")
    return hmac.digest(key, message, "sha256").hex()


def record_of_content(key: bytes, sha256: str) -> str:
    """What stands for a file, wherever it lies: two patients may each have an `IM0001`."""
    return keyed_hash(key, "content", sha256)


def record_of_path(key: bytes, path: str, report: str = "") -> str:
    """What stands for a path without a file, and for its report, until there is one."""
    return keyed_hash(key, "path", path, report)


def shift_days(key: bytes, patient_id: str) -> int:
    """Days by which all dates of a patient (its keyed hash) move into the past: 1 to 11 years."""
    digest = keyed_hash(key, "shift", patient_id)
    return EARLIEST_SHIFT_DAYS + int(digest[:16], 16) % SHIFT_DAYS

"""Secrets do not belong into logs and tables: they are taken out of what is written there."""

from __future__ import annotations

import re

# user:password@ of a URL, and values of parameters that are named like secrets.
_USER = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)[^/\s@'\"]*@")
_VALUE = re.compile(
    r"(?P<name>(password|passwd|secret|token|sig|signature|access[._-]?key|api[._-]?key)"
    r"[\w.-]*\s*[=:]\s*)[^\s&'\",;]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` without the user part of URLs and without values that are named like secrets."""
    return _VALUE.sub(r"\g<name>***", _USER.sub(r"\g<scheme>***@", text))

"""Text as delivered to plain Unicode text: normal form KC, entities, markup, characters unseen.

Spark 4.0 has none of these, so they come in Arrow batches, all in one pass. What one of them leaves
can be another's to do ("&amp;lt;b&amp;gt;" holds a tag, a full-width "&" an entity), so they are
repeated until nothing changes.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

STEPS = ("unicode", "entities", "tags", "control_characters")
"""Names of what may change, in the order of the fields that `plain_text` returns."""

# Only with the semicolon that the standard asks for: "R&D" and "A&section" stay as they are.
_ENTITY = re.compile(r"&(?:#\d{1,8}|#[xX][0-9a-fA-F]{1,7}|[A-Za-z][A-Za-z0-9]{1,31});")
# Tags of HTML and of JATS, the XML of articles; and not "p <i and j> k": a name is followed by the
# tag's end or by an attribute.
_INLINE = "a|abbr|b|bdi|bold|cite|code|em|ext-link|font|i|italic|monospace|named-content|roman|s"
_INLINE += "|sc|small|span|strong|styled-content|strike|sub|sup|tt|u|underline|uri|xref"
_BLOCK = "alt-text|article-title|big|blockquote|body|br|caption|center|dd|disp-formula|div|dl|dt"
_BLOCK += "|fig|fn|graphic|h[1-6]|head|hr|html|img|inline-formula|inline-graphic|label|li|list"
_BLOCK += "|list-item|math|mml:[a-z]{1,20}|ol|p|pre|sec|table|tbody|td|tex-math|th|title|tr|ul"
_REST = r"(?:\s*/?|\s+[A-Za-z][\w:.-]*\s*=[^<>]*)>"
_TAGS_INLINE = re.compile(rf"</?(?:{_INLINE}){_REST}", re.IGNORECASE)
_TAGS_BLOCK = re.compile(
    rf"</?(?:{_BLOCK}){_REST}|<!--[^<>]*-->|<!\[CDATA\[|\]\]>|<\?[^<>]*\?>", re.IGNORECASE
)
# Seen as nothing though no format characters: fillers of Hangul, the joiner of graphemes, the
# blank of Braille, selectors of variants.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(c) for c in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}
_REMOVED = frozenset(("Cf", "Co", "Cs"))  # format characters (zero width, bidi), private use
_ROUNDS = 50


def plain(text: str) -> tuple[str, tuple[bool, bool, bool, bool]]:
    """`text` in plain Unicode, and which of STEPS changed it. White space is left to the caller.

    Never raises; text of which every round makes something new (entities escaped more than 50
    times over) is left as the last round made it.
    """
    if text.isascii() and text.isprintable() and "&" not in text and "<" not in text:
        return text, (False, False, False, False)
    changed = [False] * len(STEPS)
    for _ in range(_ROUNDS):
        before = text
        for i, step in enumerate((_normal, _unescaped, _without_tags, _visible)):
            done = step(text)
            changed[i] |= done != text
            text = done
        if text == before:
            break
    return text, (changed[0], changed[1], changed[2], changed[3])


def plain_text(text: Column) -> Column:
    """Struct (text, unicode, entities, tags, control_characters): the text of `plain`, NULL for
    NULL, and for each of STEPS whether it changed anything.

    Bytes that are no UTF-8 become U+FFFD first.
    """
    fields = ", ".join(f"{step} boolean" for step in STEPS)

    @F.pandas_udf(f"text string, {fields}")  # type: ignore[call-overload]
    def in_batches(texts: pd.Series) -> pd.DataFrame:
        rows = [(None, *[False] * len(STEPS)) if t is None else _row(t) for t in _values(texts)]
        return pd.DataFrame(rows, columns=["text", *STEPS])

    return in_batches(F.make_valid_utf8(text))


def _row(text: str) -> tuple[Any, ...]:
    done, changed = plain(text)
    return done, *changed


def _values(texts: pd.Series) -> list[str | None]:
    return [t if isinstance(t, str) else None for t in texts]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _unescaped(text: str) -> str:
    return _ENTITY.sub(lambda m: html.unescape(m[0]), text) if "&" in text else text


def _without_tags(text: str) -> str:
    if "<" not in text and "]]>" not in text:
        return text
    return _TAGS_BLOCK.sub(" ", _TAGS_INLINE.sub("", text))


def _visible(text: str) -> str:
    if text.isprintable() and not _UNSEEN & set(text):
        return text
    return "".join(map(_seen, text))


def _seen(char: str) -> str:
    if char in _UNSEEN:
        return ""
    category = unicodedata.category(char)
    if category in ("Cc", "Zl", "Zp"):
        return char if char in "\t\n" else ("\n" if char in "\r\u2028\u2029\x85" else " ")
    return "" if category in _REMOVED else char

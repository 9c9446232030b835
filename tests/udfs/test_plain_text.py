"""Plain text: each kind of dirt by hand, and what holds for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.frames import frame_of
from udfs.plain_text import STEPS, plain, plain_text

PIECES = [
    "&",
    "amp;",
    "lt;",
    "<",
    ">",
    "sup",
    "/",
    "#x26;",
    "\u200b",
    "\uff06",
    "e",
    "\u0301",
    " ",
    "b",
]


@pytest.mark.parametrize(
    ("given_text", "text", "changed"),
    [
        ("Axial CT of the chest.", "Axial CT of the chest.", set()),
        ("ﬁne “quoted” text, 10 µm", "fine “quoted” text, 10 μm", {"unicode"}),
        ("p &lt; 0.05 &amp; n &gt; 3", "p < 0.05 & n > 3", {"entities"}),
        ("p &amp;amp;lt; 0.05", "p < 0.05", {"entities"}),
        ("10 cm<sup>2</sup>", "10 cm2", {"tags"}),
        ("&lt;i&gt;E. coli&lt;/i&gt;", "E. coli", {"entities", "tags"}),
        ('see <xref ref-type="fig" rid="f1">here</xref>', "see here", {"tags"}),
        ("one<br/>two", "one two", {"tags"}),
        ("a <b and c> d, 3<5", "a <b and c> d, 3<5", set()),  # no tag
        ("R&D, AT&T, Q&A;", "R&D, AT&T, Q&A;", set()),  # no entity
        (
            "zero\u200bwidth\ufeff, soft\u00adhyphen",
            "zerowidth, softhyphen",
            {"control_characters"},
        ),
        ("\u115fFollow-up\x00 MRI", "Follow-up  MRI", {"control_characters"}),
        ("", "", set()),
    ],
)
def test_what_becomes_of_a_text(given_text: str, text: str, changed: set[str]) -> None:
    done, flags = plain(given_text)
    assert done == text
    assert {step for step, flag in zip(STEPS, flags, strict=True) if flag} == changed


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=20).map("".join)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    once, _ = plain(text)
    assert plain(once) == (once, (False,) * len(STEPS))


def test_a_column_with_bytes_that_are_no_text(spark: SparkSession) -> None:
    rows = frame_of(spark, [(b"CT \xff scan",), (None,), (b"&amp;",)], "bytes binary")
    found = rows.select(plain_text(F.col("bytes").cast("string"))["text"].alias("text")).collect()
    assert [r.text for r in found] == ["CT \ufffd scan", None, "&"]

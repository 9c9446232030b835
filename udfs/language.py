"""The language of short texts, in Arrow batches, by py3langid.

py3langid (Lui and Baldwin's langid.py, with a model of 140 languages) finds Latin, Venetian or
Nigerian Pidgin in short English captions that are mostly names of organs, so it is asked for the
languages alone in which figures are published. Even then short captions are a toss-up. A text is
therefore English unless another language is several times as likely; see docs/figures-captions.md
for what that was measured on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pyspark.sql import Column
from pyspark.sql import functions as F

LANGUAGES = (
    *("ar", "ca", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id"),
    *("it", "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh"),
)
TIMES_AS_LIKELY = 8.0
"""How many times as likely as English another language must be. Of 3 743 captions of ROCO the
English ones stay below 6.7, and most of the others are above 100."""


def language(text: str) -> str | None:
    """The ISO 639-1 code of `text`; None where it is too short to tell, or without letters."""
    if not any(map(str.isalpha, text)):
        return None
    found, likelihood = _identifier().classify(text)
    if found == "en":
        return "en"
    is_sure = likelihood >= TIMES_AS_LIKELY * dict(_identifier().rank(text))["en"]
    return str(found) if is_sure else None


def language_of(text: Column) -> Column:
    """`language` of a column, NULL for NULL."""

    @F.pandas_udf("string")  # type: ignore[call-overload]
    def in_batches(texts: pd.Series) -> pd.Series:
        found = [language(t) if isinstance(t, str) else None for t in texts]
        return pd.Series(found, dtype=object)

    return in_batches(text)


@cache
def _identifier() -> Any:
    """Loaded once a worker, which takes half a second."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier

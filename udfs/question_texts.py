"""Questions about images and their answers, as Spark columns: cleaned, closed, of one type."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from udfs.captions import single_blanks

_YES = ("yes", "yeah", "yep", "true", "是", "是的", "对", "有", "存在", "包含", "包括", "可以")
_NO = ("no", "nope", "false", "不", "不是", "否", "没有", "无", "不存在", "不包含", "不可以")
_SPELT = {
    **dict.fromkeys(("yes", "yeah", "yep", "true"), "yes"),
    **dict.fromkeys(("no", "nope", "false"), "no"),
}
# VQA-RAD writes a tab for each comma, and before it a blank into longer words: "splee n<tab>".
_SPLIT_WORD = r"(?<=\p{L}{2}) ([b-hj-z])\t"
_TAB = r" *\t\s*"
_WHOLE_NUMBER = r"^([+-]?\d+)\.0+$"
_CLOSED = r"^close(?:d|_ended|-ended)?\b|^yes ?/ ?no\b|^binary\b"
_OPEN = r"^open\b|^free\b"
_TYPE_NAMES = {
    "atrib": "attribute",
    "attrib": "attribute",
    "prse": "presence",
    "pres": "presence",
    "pos": "position",
    "abn": "abnormality",
}


def cleaned_text(text: Column) -> Column:
    """White space as single blanks, a tab within as the comma that it stands for; NULL for none."""
    mended = F.regexp_replace(F.regexp_replace(text, _SPLIT_WORD, "$1\t"), r"^\s+|\s+$", "")
    plain = single_blanks(F.regexp_replace(mended, _TAB, ", "))
    return F.when(~F.lower(plain).isin("", "null", "none given", "n/a", "nan"), plain)


def cleaned_answer(text: Column) -> Column:
    """`cleaned_text` with yes and no spelt in one way, without a full stop, 4.0 as 4.

    "None" stays: it answers "Which lobe is affected?".
    """
    plain = F.regexp_replace(cleaned_text(text), r"(?<!\.\p{L})[.。]$", "")
    number = F.regexp_replace(plain, _WHOLE_NUMBER, "$1")
    spelt = F.create_map(*(F.lit(x) for pair in _SPELT.items() for x in pair))
    return F.coalesce(F.element_at(spelt, F.lower(number)), number)


def is_closed(answer_type: Column, answer: Column) -> Column:
    """Whether the answer is from a closed set: as `answer_type` says, else whether it is yes or no.

    `answer` is cleaned. False where neither is given.
    """
    said = F.lower(F.trim(answer_type))
    by_type = F.when(F.rlike(said, F.lit(_CLOSED)), F.lit(True)).when(
        F.rlike(said, F.lit(_OPEN)), F.lit(False)
    )
    return F.coalesce(by_type, F.lower(answer).isin(*_YES, *_NO), F.lit(False))


def one_spelling(question_type: Column) -> Column:
    """A question's types in small letters, sorted, misspellings and short forms written out.

    "PRSE" is "presence", "POS, PRES" is "position, presence"; NULL for none.
    """
    names = F.create_map(*(F.lit(x) for pair in _TYPE_NAMES.items() for x in pair))
    parts = F.split(F.lower(single_blanks(question_type)), r" ?[,;/|] ?")
    spelt = F.transform(parts, lambda part: F.coalesce(F.element_at(names, part), part))
    joined = F.array_join(F.array_sort(F.array_distinct(F.filter(spelt, lambda p: p != ""))), ", ")
    return F.when(joined != "", joined)


def language_code(language: Column) -> Column:
    """ISO 639-1 of a language as delivered ("EN", "en-US", "English", "zh_CN"); NULL for none."""
    base = F.regexp_extract(F.lower(F.trim(language)), r"^(\p{L}+)", 1)
    known = {"english": "en", "eng": "en", "chinese": "zh", "zho": "zh", "chi": "zh"}
    names = F.create_map(*(F.lit(x) for pair in known.items() for x in pair))
    code = F.coalesce(F.element_at(names, base), base)
    return F.when(F.length(code) == 2, code)

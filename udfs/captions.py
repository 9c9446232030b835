r"""Cleaning of figure captions, as Spark columns.

Each of STEPS takes a text out that says nothing of the image and leaves a blank in its place. They
take plain text with single blanks (`udfs.plain_text`, `single_blanks`). Patterns are Java's. A
group that repeats is possessive ("*+"), because Java walks any other one by recursion, and a long
caption would overflow its stack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from udfs.caption_boilerplate import BOILERPLATE, SCALE_BAR

# "['a', 'b']" as Python or JSON writes a list. What stands between two items is taken out last,
# so that a comma between quotes in other text stays.
_LIST = r"(?s)^\[ ?(?:'.*'|\".*\") ?\]$"
_LIST_ENDS = r"^\[ ?['\"] ?| ?['\"] ?\]$"
_LIST_BETWEEN = r" ?['\"] ?, ?['\"] ?"

# Springer's XML has each formula twice, first as a whole document of LaTeX.
_LATEX = r"(?s)\\documentclass.{0,2000}?\\begin\{document\}.{0,2000}?\\end\{document\}"

_SUFFIX = r"(?: ?[A-Za-z](?![A-Za-z]))?+"
_MORE = rf"(?: ?(?:,|&|and|to|\u2013|-) ?(?:[SAE]?\d{{1,3}}{_SUFFIX}|[A-Za-z](?![A-Za-z])))*+"
_NUMBER = rf"(?:[SAE]?-?\d{{1,3}}(?:\.\d{{1,2}})?+{_SUFFIX}{_MORE}|[IVX]{{1,4}}(?![A-Za-z]))"
_FIGURE = r"(?:(?i:suppl?(?:ementa(?:l|ry)|\.)?|online|additional|extended data|appendix) ?)?+"
_FIGURE += r"(?i:fig(?:ure)?s?)\.? ?(?i:no\. ?)?+"
# "Figure 2 shows ..." is a sentence: a label ends with a mark, or a capital follows.
_END_OF_LABEL = r"(?: ?[.:|)]++(?= |[A-Z(]|$)| ?[\u2013—-]++(?= |$)| ?$| (?=\([A-Za-z]\)|[A-Z]))"
_OTHER = r"(?i:image|photo|picture|plate|scheme|chart|graph|panel|illustration|slide|video|movie) "
_LABEL = rf"^(?:(?:{_FIGURE}{_NUMBER}{_END_OF_LABEL}|{_OTHER}{_NUMBER} ?[.:|](?= |$)) ?)++"
_LEADING_MARKS = r"^(?:[ :;,|•*·]|\.(?!\d)|[\u2013—-](?!\d))++"

_NUMBERS = r"\d{1,3}(?: ?[,;\u2013-] ?\d{1,3})*+"
# Not an interval, as in "95 % CI [12, 30]", nor an isotope, as in "[11]C".
_NUMBERED = (
    r" ?\[(?<!\bCI ?\[)(?<!(?:range|interval|IQR):? ?\[) ?(?:[Rr]efs?\.? ?)?"
    rf"{_NUMBERS} ?\](?![A-Za-z-])"
)
_BEFORE = r"(?:(?i:(?:as )?(?:adapted|modified|reproduced|redrawn|taken|data|image|figure)?)? ?)"
_BEFORE += r"(?i:from|see|after|in|by|cf\.?|e\.g\.,?) (?i:also )?"
_REFERENCES = (
    rf" ?[(\[] ?(?:see )?[Rr]ef(?:erence)?s?\.? ?{_NUMBERS} ?[)\]]"
    rf"| ?\({_BEFORE}(?:[Rr]ef(?:erence)?s?\.? ?)?\[{_NUMBERS}\] ?\)"
)
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Spring|Summer|Autumn|Winter)"
_NAME = r"(?:(?:van|von|de|den|der|di|la|le) )*+\p{Lu}[\p{L}'\u2019-]++"
_YEAR = r"(?:19|20)\d\d[a-z]?"
_WORK = rf"(?!{_MONTH}){_NAME}(?:,? et al\.?,? |,? (?:and|&) {_NAME},? |, ){_YEAR}"
_BEFORE_WORK = r"(?:(?i:see|cf\.?|e\.g\.,?|after|from|adapted from|modified from|reviewed in) )?+"
_AUTHORS = rf" ?[(\[]{_BEFORE_WORK}{_WORK}(?: ?[;,] ?(?:{_WORK}|{_YEAR}))*+[)\]]"

_AFTER_BRACKET = r"([(\[]) ?[,;:]++ ?"
_EMPTY_BRACKETS = r" ?(?:\([ ,;:.]*+\)|\[[ ,;:.]*+\])"
_MARKS = r"([.;:,!?])(?: [.;:,])++(?= |$)"
# Never what makes an entity: "&lt ;".
_BLANK_BEFORE_MARK = r" (?=[,.;:!?](?![\w.])|\)(?=[ ,.;:]|$))(?<!&[#\w]{1,32} )"

PLACEHOLDERS = (
    *("n/a", "na", "nil", "none", "null", "nan", "undefined", "unknown", "untitled", "tbd", "tba"),
    *("todo", "test", "caption", "description", "title", "legend", "text", "alt", "alt text"),
    *("placeholder", "empty", "blank", "missing", "not available", "not applicable", "unavailable"),
    *("see text", "see legend", "see caption", "see below", "see above", "see main text"),
    *("no caption", "no captions", "no caption available", "no caption provided"),
    *("no description", "no description available", "no title", "no text", "no legend"),
    *("caption not available", "caption unavailable", "caption missing", "no data", "no image"),
    *("image not available", "figure not available", "image unavailable", "click here"),
    *("insert caption here", "add caption", "caption here", "coming soon", "lorem ipsum"),
)
_ANY_PICTURE = (
    r"^(?:the |an? )?(?:image|images|img|figure|figures|fig|picture|pic|photo|photograph|graphic|"
    r"graphical abstract|screenshot|screen shot|plate|panel|scheme|slide|scan|radiology image|"
    r"medical image|case|supplementary figure)(?: (?:no )?[a-z]?\d{1,4}[a-z]?)?$"
)
_ENDINGS = "jpe?g?|png|gif|tiff?|bmp|webp|svg|dcm|dicom|nii|nii\\.gz|eps|pdf|pptx?|heic|raw|jp2"
_NAMED_FILE = rf"(?i)^[^ ]++(?: [^ ]++){{0,5}}+(?<=\w\.(?:{_ENDINGS}))$|^(?:https?://|www\.)[^ ]++$"
# As cameras, publishers and archives name them, without an ending: IMG_0032, image003, gr1_lrg.
_LIKE_A_FILE = (
    r"(?i)^(?:(?:img|dscn?|dscf|dcim|pict|sam|image|fig|figure|scan|slide|photo|screenshot|synpic|"
    r"gr|nihms|pmc|wp|im|series|frame)[_-]?\d[\w-]*+"
    r"|[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?=[^ ]*\d)(?=[^ ]*_)[\w.()-]++|(?:[\w-]++[/\\])++[\w.-]++\d[\w.-]*+)$"
)
MIN_LETTERS = 6
"""Fewer letters are no caption: "AP view." has six, "OPG." has three."""


def single_blanks(text: Column) -> Column:
    """All white space as single blanks, none at the ends."""
    return F.trim(F.regexp_replace(text, r"[\s\p{Z}]+", " "))


def without_latex(text: Column) -> Column:
    """Without documents of LaTeX; the formula stays as text behind it."""
    return F.regexp_replace(text, _LATEX, " ")


def without_list(text: Column) -> Column:
    r"""A list that was written as text, as its items: "['a', 'b']" as "a b"."""
    joined = F.regexp_replace(F.regexp_replace(text, _LIST_ENDS, ""), _LIST_BETWEEN, " ")
    plain = F.regexp_replace(F.regexp_replace(joined, r"\\['\"]", "'"), r"\\[nrt]", " ")
    return F.when(F.rlike(text, F.lit(_LIST)), plain).otherwise(text)


def without_label(text: Column) -> Column:
    """Without "Fig. 3a.", "Figure 2:" and the like at the start, and marks left there."""
    return F.regexp_replace(F.regexp_replace(text, _LABEL, ""), _LEADING_MARKS, "")


def without_citations(text: Column) -> Column:
    """Without "[12, 13]", "(ref. 4)" and "(Smith et al., 2010; Jones and Li, 2011)"."""
    return F.regexp_replace(text, f"{_REFERENCES}|{_NUMBERED}|{_AUTHORS}", " ")


def without_scale_bar(text: Column) -> Column:
    """Without "Scale bar = 10 µm" and the like."""
    return F.regexp_replace(text, SCALE_BAR, " ")


def without_boilerplate(text: Column) -> Column:
    """Without licences, permissions, credits and what a journal's page says of itself."""
    return reduce(lambda t, pattern: F.regexp_replace(t, pattern, " "), BOILERPLATE, text)


def tidied(text: Column) -> Column:
    """Without what taking out leaves: empty brackets, blanks before a mark, marks in a row."""
    opened = F.regexp_replace(single_blanks(text), _AFTER_BRACKET, "$1")
    filled = single_blanks(F.regexp_replace(opened, _EMPTY_BRACKETS, " "))
    marked = F.regexp_replace(filled, _MARKS, "$1")
    return single_blanks(F.regexp_replace(marked, _BLANK_BEFORE_MARK, ""))


STEPS: dict[str, Callable[[Column], Column]] = {
    "latex": without_latex,
    "list": without_list,
    "figure_label": without_label,
    "citations": without_citations,
    "scale_bar": without_scale_bar,
    "boilerplate": without_boilerplate,
    "punctuation": tidied,
}
"""By the name that `mended` gives them, in their order."""


def cleaned(text: Column) -> Column:
    """All of STEPS, once."""
    return reduce(lambda t, step: step(t), STEPS.values(), text)


def is_placeholder(text: Column) -> Column:
    """True for a text that would fit any image, such as "N/A", "Image 2" or nothing."""
    words = F.trim(F.regexp_replace(F.lower(text), r"[^\p{L}\p{N}/]+", " "))
    said = words.isin("", *PLACEHOLDERS) | words.startswith("lorem ipsum")
    return said | F.rlike(words, F.lit(_ANY_PICTURE))


def is_file_name(text: Column) -> Column:
    """True for a file's name, path or URL: "IMG_0032.jpg", "image003", "a/b/PMC1_fig2"."""
    bare = F.regexp_replace(text, r"[ .]+$", "")
    return F.rlike(bare, F.lit(_NAMED_FILE)) | F.rlike(bare, F.lit(_LIKE_A_FILE))


def is_too_short(text: Column) -> Column:
    """True for fewer than MIN_LETTERS letters."""
    return F.length(F.regexp_replace(text, r"\P{L}+", "")) < MIN_LETTERS

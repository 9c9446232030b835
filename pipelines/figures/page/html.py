"""The page: one file of HTML that needs nothing else, neither network nor script."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from importlib.resources import files

from pipelines.figures.page.counts import charts, funnel, splits, tiles, took
from pipelines.figures.page.story import (
    Copies,
    Copy,
    Picture,
    Sheet,
    Story,
    headline,
    reason_words,
    summary,
)
from pipelines.page import document, number

MADE_NOTE = "These figures are made by a program, not real"
_MODALITIES = {
    "ct": "CT", "mri": "MRI", "xray": "X-ray", "ultrasound": "Ultrasound",
    "nuclear": "Nuclear, PET", "angiography": "Angiography", "endoscopy": "Endoscopy",
    "microscopy": "Microscopy", "fundus": "Fundus", "chart": "Chart, diagram", "other": "Other",
    "": "Not said",
}  # fmt: skip
_ROW = 8  # pictures of a sheet that show before one asks for more
_FOUND_BY = {"bytes": "same bytes", "image": "image", "caption": "caption"}


def captions_page(story: Story) -> str:
    """The whole page as text."""
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    made = f'<p class="made">{MADE_NOTE}</p>' if story.made else ""
    versions = ", ".join(f"{t} version {v}" for t, v in sorted(story.versions.items()))
    main = f"""<header>
<p class="over">Figures and captions</p>
<h1>{escape(headline(story))}</h1>
{made}
<p class="lead">{escape(summary(story))}</p>
{tiles(story)}
</header>
{_sections(story) if story.read else ""}
<footer><p>{escape(f"Tables: {versions}." if versions else "No table was read.")}</p></footer>
"""
    return document(headline(story), style, main)


def _sections(story: Story) -> str:
    return f"""{funnel(story)}
<div class="charts">
{charts(story)}
{splits(story)}
</div>
{_modalities(story)}
{_rejected(story)}
{_copies(story)}
{took(story)}"""


def _picture(picture: Picture, *, mark: str = "", below: str = "") -> str:
    caption = picture.caption.strip()
    if picture.jpeg is None:
        shown = f'<span class="none">{escape(reason_words(picture.why) or "not drawn")}</span>'
    else:
        data = b64encode(picture.jpeg).decode("ascii")
        alt = escape(caption or "no caption", quote=True)
        shown = f'<img loading="lazy" alt="{alt}" src="data:image/jpeg;base64,{data}">'
    text = escape(caption) if caption else '<i class="soft">no caption</i>'
    title = f' title="{escape(caption, quote=True)}"' if caption else ""
    kept = ' class="kept"' if mark else ""
    return (
        f'<figure{kept}><span class="frame">{shown}</span>'
        f"{f'<b>{escape(mark)}</b>' if mark else ''}{below}"
        f"<figcaption{title}>{text}</figcaption></figure>"
    )


def _sheet(sheet: Sheet, name: str) -> str:
    shown = len(sheet.pictures)
    of = f", {number(shown)} of them here" if 0 < shown < sheet.count else ""
    first, rest = (map(_picture, p) for p in (sheet.pictures[:_ROW], sheet.pictures[_ROW:]))
    grid = f'<div class="sheet">{"".join(first)}</div>' if shown else ""
    if shown > _ROW:
        grid += (
            f"<details><summary>{shown - _ROW} more</summary>"
            f'<div class="sheet">{"".join(rest)}</div></details>'
        )
    return (
        f'<div class="group"><h3>{escape(name)} <span class="soft">{number(sheet.count)}{of}'
        f"</span></h3>{grid}</div>"
    )


def _section(title: str, sub: str, content: str, empty: str) -> str:
    body = content or f'<p class="soft">{escape(empty)}</p>'
    return f'<section><h2>{escape(title)}</h2><p class="sub">{escape(sub)}</p>{body}</section>'


def _modalities(story: Story) -> str:
    sheets = "".join(_sheet(s, _MODALITIES.get(s.name, s.name)) for s in story.modalities)
    return _section(
        "What there is to train from",
        "By modality, as captions and tags say it; drawn by chance, the caption below as cleaned",
        sheets,
        "No example was accepted.",
    )


def _rejected(story: Story) -> str:
    sheets = "".join(_sheet(s, reason_words(s.name)) for s in story.rejected)
    return _section(
        "What was left out",
        "By reason, and every example under each of its reasons; captions as delivered. A gray "
        "field: no decoder opens it, or it is DICOM, which is not drawn",
        sheets,
        "Nothing was left out.",
    )


def _copies(story: Story) -> str:
    pairs = ", ".join(
        f"{number(n)} by {_FOUND_BY.get(kind, kind)}" for kind, n in sorted(story.pairs.items())
    )
    sub = "Groups of copies, drawn by chance; the best one is kept"
    groups = "".join(map(_group, story.copies))
    return _section(
        "Copies side by side",
        f"{sub}. Pairs found: {pairs}" if pairs else sub,
        f'<div class="copies">{groups}</div>' if groups else "",
        "No copy was found.",
    )


def _group(group: Copies) -> str:
    kept = _picture(group.kept, mark="✓ kept") if group.kept else ""
    copies = "".join(map(_copy, group.copies))
    more = group.others - len(group.copies)
    rest = f'<p class="soft more">and {number(more)} more</p>' if more > 0 else ""
    return f'<div class="pair">{kept}{copies}{rest}</div>'


def _copy(copy: Copy) -> str:
    found = [f"{_FOUND_BY.get(kind, kind)}: {how}" if how else _FOUND_BY.get(kind, kind)
             for kind, how in copy.found_by] or ["by way of another copy"]  # fmt: skip
    below = f'<span class="found">{escape("; ".join(found))}</span>'
    return _picture(copy.picture, below=below)

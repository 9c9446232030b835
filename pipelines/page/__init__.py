"""What the pages have in common: their colours in light and dark, charts, and how they write."""

from __future__ import annotations

from html import escape
from importlib.resources import files


def palette_css() -> str:
    """Colours of all pages as CSS variables; each page's own style follows it."""
    return files(__package__).joinpath("palette.css").read_text(encoding="utf-8")


def document(title: str, style: str, main: str) -> str:
    """A whole page: `style` is its CSS beyond what pages share, `main` the HTML of its content."""
    shared = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{palette_css()}{shared}{style}</style>
</head>
<body>
<main>
{main}</main>
</body>
</html>
"""


def number(n: int) -> str:
    """12 345 with narrow no-break spaces."""
    return f"{n:,}".replace(",", "\u202f")

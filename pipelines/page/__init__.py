"""What the pages have in common: their colours in light and dark, charts, and how they write."""

from __future__ import annotations

from importlib.resources import files


def palette_css() -> str:
    """Colours of all pages as CSS variables; each page's own style follows it."""
    return files(__package__).joinpath("palette.css").read_text(encoding="utf-8")


def number(n: int) -> str:
    """12 345 with narrow no-break spaces."""
    return f"{n:,}".replace(",", "\u202f")

"""What holds for every page of HTML that the project writes."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest


class _Balanced(HTMLParser):
    """Fails where an element is closed that is not the open one."""

    void = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.elements: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        if tag not in self.void:
            self.open.append(tag)
        if tag == "img" or (tag == "svg"):
            self.images.append(dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_whole(text: str) -> None:
    """The page is well-formed, needs nothing from elsewhere and can be read aloud."""
    parsed = _Balanced()
    parsed.feed(text)
    assert parsed.open == []
    assert "script" not in parsed.elements
    markup = re.sub(r">[^<]*<", "><", re.sub(r'(alt|title|aria-label)="[^"]*"', "", text))
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    for part in (re.sub(r'"data:[^"]*"', "", markup), style):
        assert not re.search(r"https?:|//\w|@import|url\(", part)
    for source in re.findall(r"(?:src|href)=\"([^\"]*)\"", text):
        assert source.startswith("data:")
    for attributes in parsed.images:  # what a screen reader says
        assert attributes.get("alt") or attributes.get("aria-label")


def laid_out(text: str, folder: Path, width: int) -> str:
    """What a browser of this width in pixels makes of the page.

    "true true 2 true": nothing scrolls sideways, the page is higher than 900 px, has two images,
    and all of them show. Skips where there is no Chromium.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for path in map(shutil.which, names) if path), None)
    if browser is None:
        pytest.skip("no chromium on PATH: install it (Debian: apt install chromium)")
    (folder / "page.html").write_text(text, encoding="utf-8")
    # A window cannot be as narrow as a phone, a frame can; the frame's own scripts are not needed.
    frame = f"""<iframe id=f src=page.html style="border:0;width:{width}px;height:900px"></iframe>
<script>f.onload = () => {{ const e = f.contentDocument.documentElement;
document.title = [e.scrollWidth <= e.clientWidth, e.scrollHeight > 900,
f.contentDocument.images.length,
[...f.contentDocument.images].every(i => i.naturalWidth > 0)].join(" ") }}</script>"""
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         (folder / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*)</title>", done.stdout)
    assert title is not None, done.stdout[-500:]
    return title[1]

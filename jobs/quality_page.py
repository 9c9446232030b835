"""What a check of a table found, as one page of HTML that needs neither network nor script.

Great Expectations' own pages lie beside it, and take their styles and scripts from the internet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from jobs.quality import Verdict, worst
from pipelines.files import write_whole
from pipelines.page import palette_css

_TITLES = {
    "passed": "all is as expected",
    "warn": "worth a look, and good enough to go on",
    "error": "bad data, stopped here",
}
_MARKS = {"passed": "✓ holds", "warn": "! warning", "error": "✗ error"}
_ORDER = ("error", "warn", "passed")
_STYLE = """\
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 32px 24px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; }
p { margin: 0 0 18px; color: var(--soft); overflow-wrap: anywhere; }
div { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 6px 18px; margin: 0 0 18px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { text-align: left; vertical-align: top; padding: 7px 14px 7px 0;
  border-bottom: 1px solid var(--rule); }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.examples { overflow-wrap: anywhere; min-width: 180px; }
.error { color: var(--error); } .warn { color: var(--warn); } .passed { color: var(--passed); }
td:first-child { white-space: nowrap; font-weight: 600; }
"""


def write_page(
    folder: Path,
    table: str,
    *,
    rows_of: str,
    run_id: str,
    at: datetime,
    verdicts: Sequence[Verdict],
) -> Path:
    """Write the page of the table's last check, FOLDER/TABLE.html, and return its full path.

    `rows_of` says which rows were looked at, such as "version 3, 2015-12-01 to 2015-12-02".
    """
    outcome = worst(verdicts)
    ordered = sorted(verdicts, key=lambda v: _ORDER.index(_outcome(v)))
    about = f"{rows_of}. Checked {at:%Y-%m-%d %H:%M} UTC by run {run_id}."
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(table)}: {_TITLES[outcome]}</title>
<link rel="icon" href="data:,">
<style>
{palette_css()}{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(table)}: <span class="{outcome}">{_TITLES[outcome]}</span></h1>
<p>{escape(about)}</p>
<div>
<table>
<thead><tr><th>outcome</th><th>rows</th><th>expected</th><th class="number">looked at</th>
<th class="number">otherwise</th><th>seen</th></tr></thead>
<tbody>
{"".join(map(_row, ordered))}</tbody>
</table>
</div>
<p>Earlier checks are in the table ops.quality_results, and in
<a href="index.html">Great Expectations' own pages</a>, which need the internet for their looks.</p>
</main>
</body>
</html>
"""
    page = folder / f"{table}.html"
    write_whole(page, lambda file: file.write(text.encode()))
    return page.resolve()


def _outcome(verdict: Verdict) -> str:
    return "passed" if verdict.success else verdict.expectation.level


def _row(v: Verdict) -> str:
    outcome = _outcome(v)
    seen = v.examples or v.observed or ""
    return (
        f'<tr><td class="{outcome}">{_MARKS[outcome]}</td><td>{escape(v.batch)}</td>'
        f"<td>{escape(v.words)}</td>"
        f'<td class="number">{_count(v.rows)}</td><td class="number">{_count(v.unexpected)}</td>'
        f'<td class="examples">{escape(seen)}</td></tr>\n'
    )


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"

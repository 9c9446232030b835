"""The page: one file of HTML that needs nothing else, neither network nor script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from pipelines.page import document, number, svg
from pipelines.trips.page.maps import palette, png, scale_bar_m
from pipelines.trips.page.story import (
    DensityMap,
    Story,
    days,
    headline,
    length,
    summary,
)

MADE_NOTE = "These trips are made by a program, not real"
_HOURS = (0, 4, 8, 12, 16, 20)
_MOST_FILES = 8


def page(story: Story) -> str:
    """The whole page as text."""
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    made = f'<p class="made">{MADE_NOTE}</p>' if story.made else ""
    main = f"""<p class="over">Return trips, {escape(days(story))}</p>
<h1>{escape(headline(story))}</h1>
{made}
<p class="lead">{escape(summary(story))}</p>
{_maps(story)}
<div class="charts">
{_by_radius(story)}
{_by_hour(story)}
{_waits(story)}
</div>
{_source(story)}
"""
    return document(headline(story), style, main)


def _maps(story: Story) -> str:
    if not story.maps:
        return '<p class="sub">There is no return trip to draw on a map.</p>'
    titles = ("Where return trips start", "The middle of it")
    figures = "".join(
        _figure(density, title, story) for density, title in zip(story.maps, titles, strict=True)
    )
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in palette()[20::47])
    most = max(int(m.counts.max()) for m in story.maps)
    return (
        f'<div class="maps">{figures}</div>'
        f'<div class="legend"><span>1 return trip</span><i style="background: '
        f'linear-gradient(90deg, {stops})"></i><span>{number(most)} in one pixel</span></div>'
        f'<p class="sub points">{number(story.starts)} pickups of return trips within '
        f"{story.largest_m}&nbsp;m and nothing else: streets and shores show because trips "
        "start on them.</p>"
    )


def _figure(density: DensityMap, title: str, story: Story) -> str:
    view = density.view
    bar_m = scale_bar_m(density)
    bar = f"{bar_m // 1000} km" if bar_m >= 1000 else f"{bar_m} m"
    share = 100 * bar_m / view.m_per_px / view.width_px
    alt = (
        f"{title}: map of {number(int(density.counts.sum()))} pickups between latitudes "
        f"{view.min_lat:.3f} and {view.max_lat:.3f}, longitudes {view.min_lon:.3f} and "
        f"{view.max_lon:.3f}, bright where many return trips within {story.largest_m} m start."
    )
    data = base64.b64encode(png(density)).decode("ascii")
    return (
        f'<figure><img width="{view.width_px}" height="{view.height_px}" alt="{escape(alt)}" '
        f'src="data:image/png;base64,{data}"><figcaption>{escape(title)}</figcaption>'
        f'<span class="scale" style="width: {share:.2f}%" aria-hidden="true">{bar}</span></figure>'
    )


def _by_radius(story: Story) -> str:
    most = max(story.pairs.values()) or 1
    rows = "".join(
        f"<tr><th>{r}&nbsp;m</th><td>{number(story.pairs[r])}</td>"
        f"<td>{number(story.with_return[r])}</td><td>{100 * story.share(r):.1f}&nbsp;%</td>"
        f'<td class="meter" aria-hidden="true"><i style="width: '
        f'{100 * story.pairs[r] / most:.2f}%"></i></td></tr>'
        for r in story.radii_m
    )
    return f"""<section class="wide"><h2>The wider the circle, the more trips come back</h2>
<p class="sub">Pairs closer than the radius at both ends, by radius</p>
<div class="scroll"><table><thead><tr><th>radius</th><th>pairs</th><th>trips with a return</th>
<th>of all trips</th><th class="meter"></th></tr></thead><tbody>{rows}</tbody></table></div>
</section>"""


def _by_hour(story: Story) -> str:
    series = [
        (f"{r} m", [None if s is None else 100 * s for s in story.hourly_shares(r)])
        for r in story.radii_m
    ]
    chart = svg.lines(
        series,
        alt="Share of trips with a return by hour of the day and radius, in per cent; "
        "the table below has the numbers.",
        ticks_x=_HOURS,
        tick_texts=[f"{h}:00" for h in _HOURS],
        unit="%",
    )
    rows = [
        [f"{h}:00", number(story.hours[story.largest_m][h][0])]
        + ["none" if s[1][h] is None else f"{s[1][h]:.1f} %" for s in series]
        for h in range(24)
    ]
    table = _table(["hour of drop-off", "trips", *(name for name, _ in series)], rows)
    return _chart(
        "When a way back follows",
        "Trips with a return, by local hour of the drop-off. The last "
        f"{length(story.window_s)} of the data have less time to find one.",
        chart,
        table,
    )


def _waits(story: Story) -> str:
    r = story.largest_m
    total = sum(story.wait_bins[r])
    shares = [100 * n / total if total else 0.0 for n in story.wait_bins[r]]
    median = story.median_wait_s(r)
    hours = range(0, int(story.window_s // 3600) + 1, max(1, int(story.window_s // 3600) // 8))
    per_hour = 3600 / story.bin_s
    chart = svg.bars(
        shares,
        alt=f"How long pairs within {r} m waited, in bins of {length(story.bin_s)}; "
        "the table below has the numbers.",
        ticks_x=[round(h * per_hour) for h in hours],
        tick_texts=[f"{h} h" for h in hours],
        unit="%",
        mark=(median / story.bin_s, f"half within {length(median)}") if median else None,
    )
    rows = [
        [f"from {length(i * story.bin_s)}", *(number(story.wait_bins[x][i]) for x in story.radii_m)]
        for i in range(len(shares))
    ]
    table = _table(["wait", *(f"{x} m" for x in story.radii_m)], rows)
    sub = f"Pairs within {r} m, from drop-off to the return's pickup, {length(story.bin_s)} a bar"
    return _chart("How long until the way back begins", sub, chart, table)


def _chart(title: str, sub: str, chart: str, table: str) -> str:
    return (
        f'<section><h2>{escape(title)}</h2><p class="sub">{escape(sub)}</p>{chart}'
        f"<details><summary>The numbers</summary>{table}</details></section>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(c)}</td>' for c in row[1:])}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def source_line(story: Story) -> str:
    """Files, days and versions of the tables from which the numbers come."""
    names = list(story.files[:_MOST_FILES])
    if more := len(story.files) - len(names):
        names.append(f"and {number(more)} more")
    versions = ", ".join(f"{t} version {v}" for t, v in sorted(story.versions.items()))
    made = f"{MADE_NOTE}. " if story.made else ""
    return f"{made}Files: {', '.join(names)}. Days: {days(story)}. Tables: {versions}."


def _source(story: Story) -> str:
    return (
        f"<footer><p>{escape(source_line(story))}</p><p>A return trip starts after the first trip "
        f"ended and less than {length(story.window_s)} later; distances are great circles on a "
        "sphere of 6,371 km and strictly below the radius at both ends. The radii of one pair "
        "count from the smallest that holds it: larger radii include smaller ones.</p></footer>"
    )

"""The same story as one PNG, for places that show no HTML."""

from __future__ import annotations

import textwrap
from typing import Any, BinaryIO

from pipelines.page import number
from pipelines.trips.page.html import MADE_NOTE, source_line
from pipelines.trips.page.maps import GROUND, palette, scale_bar_m, shades
from pipelines.trips.page.story import DensityMap, Story, days, headline, length, summary

WIDTH_PX, HEIGHT_PX = 1400, 1560
_DPI = 100
_INK, _SOFT, _RULE = "#eceae4", "#a2a6b1", "#2b3040"
_SERIES = ("#6a7299", "#a77fb4", "#e8806f", "#fcb260")


def poster(story: Story, out: BinaryIO) -> None:
    """Write a PNG of WIDTH_PX x HEIGHT_PX pixels."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fonts = ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"]
    with rc_context({"font.family": "sans-serif", "font.sans-serif": fonts, "font.size": 12}):
        figure = Figure((WIDTH_PX / _DPI, HEIGHT_PX / _DPI), dpi=_DPI, facecolor=GROUND)
        FigureCanvasAgg(figure)
        note = f"{MADE_NOTE}  \u00b7  " if story.made else ""
        _say(figure, 40, 34, f"{note}Return trips, {days(story)}", _SOFT, 14)
        _say(figure, 40, 60, headline(story), _INK, 34, weight="bold")
        _say(figure, 40, 126, textwrap.fill(summary(story), 150), _INK, 13)
        if not story.maps:
            _say(figure, 40, 600, "There is no return trip to draw on a map.", _SOFT, 16)
        for density, box, title in zip(
            story.maps,
            ((40, 190, 840, 924), (896, 190, 464, 924)),
            ("Where return trips start", "The middle of it"),
            strict=False,
        ):
            _map(figure, density, box, title)
        _radii(_axes(figure, (64, 1196, 330, 230), "Pairs by radius, share of trips"), story)
        _hours(
            _axes(figure, (500, 1196, 390, 230), "Trips with a return, by hour of drop-off"), story
        )
        _waits(
            _axes(figure, (996, 1196, 364, 230), f"Waits of pairs within {story.largest_m} m"),
            story,
        )
        _say(figure, 40, 1490, textwrap.fill(source_line(story), 190), _SOFT, 10)
        figure.savefig(out, format="png", dpi=_DPI, facecolor=GROUND, metadata={"Software": None})


def _say(figure: Any, x: int, y: int, text: str, colour: str, size: int, **more: Any) -> None:
    figure.text(
        x / WIDTH_PX, 1 - y / HEIGHT_PX, text, color=colour, fontsize=size, va="top", **more
    )


def _axes(figure: Any, box: tuple[int, int, int, int], title: str | None = None) -> Any:
    x, y, wide, high = box
    axes = figure.add_axes(
        (x / WIDTH_PX, 1 - (y + high) / HEIGHT_PX, wide / WIDTH_PX, high / HEIGHT_PX)
    )
    axes.set_facecolor(GROUND)
    axes.tick_params(colors=_SOFT, length=0, labelsize=11)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, loc="left", color=_INK, fontsize=14, pad=14, weight="bold")
        axes.grid(axis="y", color=_RULE)
        axes.set_axisbelow(True)
    return axes


def _map(figure: Any, density: DensityMap, box: tuple[int, int, int, int], title: str) -> None:
    from matplotlib.colors import ListedColormap

    axes = _axes(figure, box)
    colours = ListedColormap(palette() / 255.0)
    axes.imshow(shades(density.counts), cmap=colours, vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    high, wide = density.counts.shape
    axes.text(0.012 * wide, 0.03 * high, title, color=_INK, fontsize=13)
    bar_m = scale_bar_m(density)
    x, y = 0.02 * wide, 0.975 * high
    axes.plot([x, x + bar_m / density.view.m_per_px], [y, y], color=_SOFT, lw=2)
    text = f"{bar_m // 1000} km" if bar_m >= 1000 else f"{bar_m} m"
    axes.text(x, y - 0.008 * high, text, color=_SOFT, fontsize=11, va="bottom")
    axes.set_xlim(0, wide)
    axes.set_ylim(high, 0)


def _radii(axes: Any, story: Story) -> None:
    names = [f"{r} m" for r in story.radii_m]
    counts = [story.pairs[r] for r in story.radii_m]
    axes.bar(names, counts, color=_SERIES[-1], width=0.62)
    for i, (r, n) in enumerate(zip(story.radii_m, counts, strict=True)):
        text = f"{number(n)}\n{100 * story.share(r):.0f} %"
        axes.text(i, n, text, color=_INK, ha="center", va="bottom", fontsize=11)
    axes.set_ylim(0, max([*counts, 1]) * 1.22)
    axes.set_yticks([])


def _hours(axes: Any, story: Story) -> None:
    for i, r in enumerate(story.radii_m):
        shares = [float("nan") if s is None else 100 * s for s in story.hourly_shares(r)]
        axes.plot(range(24), shares, color=_SERIES[i % 4], lw=2.4)
        known = [(s, h) for h, s in enumerate(shares) if s == s]
        if known:
            highest, hour = max(known)
            axes.annotate(
                f"{r} m",
                (hour, highest),
                (0, 4),
                textcoords="offset points",
                color=_INK,
                ha="center",
                va="bottom",
                fontsize=11,
            )
    axes.set_xlim(0, 23)
    axes.set_xticks(range(0, 24, 4), [f"{h}:00" for h in range(0, 24, 4)])
    axes.set_ylim(0, max(axes.get_ylim()[1], 1))
    axes.yaxis.set_major_formatter("{x:g} %")


def _waits(axes: Any, story: Story) -> None:
    bins = story.wait_bins[story.largest_m]
    total = sum(bins) or 1
    hours = [(i + 0.5) * story.bin_s / 3600 for i in range(len(bins))]
    axes.bar(
        hours, [100 * n / total for n in bins], color=_SERIES[-1], width=0.86 * story.bin_s / 3600
    )
    axes.set_xlim(0, story.window_s / 3600)
    axes.xaxis.set_major_formatter("{x:g} h")
    axes.yaxis.set_major_formatter("{x:g} %")
    if not sum(bins):
        axes.set_ylim(0, 1)
    median = story.median_wait_s(story.largest_m)
    if median is not None:
        axes.axvline(median / 3600, color=_INK, lw=1, ls=(0, (3, 3)))
        axes.text(
            (median + story.window_s * 0.02) / 3600,
            axes.get_ylim()[1],
            f"half within {length(median)}",
            color=_INK,
            fontsize=11,
            va="top",
        )

"""Charts as inline SVG that take their colours from the page's CSS, so that they follow its theme.

Drawn for 440 pixels, so that text stays readable on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 18, 32
_ROUND_TOPS = ((1, 0.25), (1.5, 0.5), (2, 0.5), (3, 1), (4, 1), (5, 1), (6, 2), (8, 2), (10, 2.5))


def nice_ceiling(value: float) -> tuple[float, float]:
    """A round top of an axis at or above `value` and the step of its ticks; (1, 0.5) for 0."""
    if value <= 0:
        return 1.0, 0.5
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    for top, step in _ROUND_TOPS:
        if top * power >= value * (1 - 1e-9):
            return top * power, step * power
    raise AssertionError("unreachable: 10 * power is above value")


def lines(
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    alt: str,
    ticks_x: Sequence[int],
    tick_texts: Sequence[str],
    unit: str,
) -> str:
    """One line per named series over the same positions 0, 1, ...; gaps where a value is None.

    Names stand over the lines' highest points; lines are shaded from faint to
    full in the order given.
    """
    count = max(len(values) for _, values in series)
    top, step = nice_ceiling(max((v for _, vs in series for v in vs if v is not None), default=0))
    parts = [_axis_y(top, step, unit), _axis_x(ticks_x, tick_texts, count, 0.5)]
    labels: list[tuple[float, float, str]] = []
    for i, (name, values) in enumerate(series):
        path, pen = [], "M"
        for k, value in enumerate(values):
            if value is None:
                pen = "M"
                continue
            path.append(f"{pen}{_x(k + 0.5, count):.1f} {_y(value, top):.1f}")
            pen = "L"
        known = [(v, k) for k, v in enumerate(values) if v is not None]
        if known:
            parts.append(f'<path class="line s{i % 4}" d="{"".join(path)}"/>')
            highest, at = max(known)
            labels.append((_y(highest, top) - 6, _x(at + 0.5, count), name))
    below = HEIGHT + 0.0
    for wanted, x, name in sorted(labels, reverse=True):
        below = min(wanted, below - 13)
        parts.append(
            f'<text class="name" text-anchor="middle" x="{x:.1f}" y="{below:.1f}">'
            f"{escape(name)}</text>"
        )
    return _svg(parts, alt)


def bars(
    values: Sequence[float],
    *,
    alt: str,
    ticks_x: Sequence[int],
    tick_texts: Sequence[str],
    unit: str,
    mark: tuple[float, str] | None,
) -> str:
    """One bar per value, side by side; `mark` is a position and the text of a line drawn there."""
    top, step = nice_ceiling(max(values, default=0))
    parts = [_axis_y(top, step, unit), _axis_x(ticks_x, tick_texts, len(values), 0.0)]
    wide = (WIDTH - _LEFT - _RIGHT) / max(len(values), 1)
    for k, value in enumerate(values):
        if value:
            y = _y(value, top)
            parts.append(
                f'<rect class="bar" x="{_x(k, len(values)) + 0.4:.1f}" y="{y:.1f}" '
                f'width="{wide - 0.8:.1f}" height="{_y(0, top) - y:.1f}"/>'
            )
    if mark:
        x = _x(mark[0], len(values))
        parts.append(
            f'<path class="mark" d="M{x:.1f} {_TOP - 8}V{HEIGHT - _BOTTOM}"/>'
            f'<text class="name" x="{x + 5:.1f}" y="{_TOP}">{escape(mark[1])}</text>'
        )
    return _svg(parts, alt)


def _svg(parts: Sequence[str], alt: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(alt)}">'
        f"{''.join(parts)}</svg>"
    )


def _x(position: float, count: int) -> float:
    return _LEFT + position / max(count, 1) * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - value / top * (HEIGHT - _TOP - _BOTTOM)


def _axis_y(top: float, step: float, unit: str) -> str:
    ticks = [i * step for i in range(int(top / step + 1e-9) + 1)]
    return "".join(
        f'<path class="rule" d="M{_LEFT} {_y(t, top):.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{_y(t, top) + 4:.1f}">'
        f"{t:g}{escape(unit)}</text>"
        for t in ticks
    )


def _axis_x(at: Sequence[int], texts: Sequence[str], count: int, shift: float) -> str:
    return "".join(
        f'<text class="tick" text-anchor="middle" x="{_x(k + shift, count):.1f}" '
        f'y="{HEIGHT - _BOTTOM + 18}">{escape(text)}</text>'
        for k, text in zip(at, texts, strict=True)
    )

"""The page's numbers: tiles, the funnel, histograms, splits and times."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipelines.figures.page.story import Bins, Stage, Story, percent, reason_words
from pipelines.page import number, svg


def tiles(story: Story) -> str:
    """The four or five numbers that one looks for first."""
    shown = [(number(story.read), "figures read")]
    dropped = {r: n for stage in story.funnel for r, n in stage.dropped.items()}
    copies = sum(n for r, n in dropped.items() if r == "duplicate")
    shown.append((number(story.examples), "training examples"))
    if story.questions:
        shown.append((number(story.questions), "questions with answers"))
    if story.funnel:
        shown.append((number(copies), "copies left out"))
    test = next((s for s in story.splits if s.name == "test"), None)
    if test:
        shown.append((number(test.examples), "examples to test with"))
    images = [t for t in story.took if t.images and t.seconds > 0]
    if images:
        slowest = max(images, key=lambda t: t.seconds)
        rate = (slowest.images or 0) / slowest.seconds
        shown.append((f"{rate:,.0f}", f"images/s, {slowest.step}"))
    cells = "".join(
        f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for value, name in shown
    )
    return f'<dl class="tiles">{cells}</dl>'


def funnel(story: Story) -> str:
    rows = []
    largest = max((s.left for s in story.funnel), default=0)
    for n, stage in enumerate(story.funnel):
        rows.append(_stage(stage, story.funnel[n - 1] if n else None, largest))
    table = (
        '<div class="scroll"><table class="funnel"><thead><tr><th>stage</th><th>count</th>'
        '<th>of the stage before</th><th class="meter"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    body = table if rows else '<p class="soft">Nothing was read.</p>'
    return (
        "<section><h2>From what was read to what is trained from</h2>"
        '<p class="sub">What each stage leaves and why the rest was left out; an example counts '
        "once, under the first reason that applies</p>"
        f"{body}</section>"
    )


def _stage(stage: Stage, before: Stage | None, largest: int) -> str:
    same_unit = before is not None and before.unit == stage.unit
    share = percent(stage.left, before.left) if before and same_unit else ""
    if before and not same_unit:
        share = f"from {number(before.left)} {escape(before.unit)}"
    width = 100 * stage.left / largest if largest else 0
    whole = before.left if before and same_unit else stage.left + sum(stage.dropped.values())
    drops = "".join(
        f'<tr class="drop"><th>{escape(reason_words(reason))}</th>'
        f"<td>\u2212{number(n)}</td><td>{percent(n, whole)}</td>"
        f'<td class="meter" aria-hidden="true"><i style="width: '
        f'{100 * n / largest if largest else 0:.2f}%"></i></td></tr>'
        for reason, n in sorted(stage.dropped.items(), key=lambda item: (-item[1], item[0]))
        if n
    )
    return (
        f'{drops}<tr class="stage"><th>{escape(stage.name)}</th><td>{number(stage.left)}</td>'
        f"<td>{share}</td>"
        f'<td class="meter" aria-hidden="true"><i style="width: {width:.2f}%"></i></td></tr>'
    )


def charts(story: Story) -> str:
    return _histogram(
        "How long the captions are", "Words in each caption, cleaned", story.caption_words, "words"
    ) + _histogram(
        "How large the images came",
        "Longest side as delivered, before they were made smaller",
        story.longest_sides,
        "px",
    )


def _histogram(title: str, sub: str, bins: Bins, unit: str) -> str:
    total = sum(bins.counts)
    if not total:
        content = '<p class="soft">There is nothing to count.</p>'
    else:
        shares = [100 * n / total for n in bins.counts]
        every = -(-len(bins.counts) // 6)
        at = range(0, len(bins.counts), every)
        mark = None
        if bins.middle is not None:
            mark = (_position(bins, bins.middle), f"half below {bins.middle:.0f} {unit}")
        chart = svg.bars(
            shares,
            alt=f"{title}: histogram, {unit}; the table below has the numbers.",
            ticks_x=list(at),
            tick_texts=[f"{bins.edges[i]:,}" for i in at],
            unit="%",
            mark=mark,
        )
        rows = [
            [_bin(bins, i, unit), number(n), percent(n, total)] for i, n in enumerate(bins.counts)
        ]
        numbers = table([unit, "count", "share"], rows)
        content = f"{chart}<details><summary>The numbers</summary>{numbers}</details>"
    return f'<section><h2>{escape(title)}</h2><p class="sub">{escape(sub)}</p>{content}</section>'


def _bin(bins: Bins, i: int, unit: str) -> str:
    if i + 1 == len(bins.edges):
        return f"{bins.edges[i]:,} and more"
    return f"{bins.edges[i]:,} to {bins.edges[i + 1] - 1:,}"


def _position(bins: Bins, value: float) -> float:
    """Where a value stands, in bins from the left."""
    for i in range(len(bins.edges) - 1):
        low, high = bins.edges[i], bins.edges[i + 1]
        if value < high:
            return i + (value - low) / (high - low)
    return len(bins.counts) - 0.5


def splits(story: Story) -> str:
    whole = sum(s.examples for s in story.splits)
    rows = [
        [
            s.name,
            number(s.examples),
            percent(s.examples, whole),
            number(s.groups),
            number(s.questions),
        ]
        for s in story.splits
    ]
    heads = ["split", "examples", "share", "groups", "questions"]
    first = table(heads, rows) if rows else '<p class="soft">Nothing is split yet.</p>'
    leaks = [
        [leak.way, number(leak.test), number(leak.leaked), percent(leak.leaked, leak.test)]
        for leak in story.leaks
    ]
    second = (
        table(["split", "in test", "with a relative in training", "share"], leaks)
        if leaks
        else '<p class="soft">Nothing to compare.</p>'
    )
    return (
        '<section><h2>Splits</h2><p class="sub">A group stays together: '
        f"article, patient and copies</p>{first}</section><section><h2>What other splits would leak"
        '</h2><p class="sub">Test rows with the same article, patient or a copy in the training '
        f"part</p>{second}</section>"
    )


def took(story: Story) -> str:
    longest = max((t.seconds for t in story.took), default=0.0)
    rows = "".join(
        f"<tr><th>{escape(t.step)}</th><td>{t.seconds:,.1f}</td>"
        f"<td>{'' if t.images is None else number(t.images)}</td>"
        f"<td>{f'{t.images / t.seconds:,.0f}' if t.images and t.seconds > 0 else ''}</td>"
        f'<td class="meter" aria-hidden="true"><i style="width: '
        f'{100 * t.seconds / longest if longest else 0:.2f}%"></i></td></tr>'
        for t in story.took
    )
    body = (
        '<div class="scroll"><table><thead><tr><th>stage</th><th>seconds</th><th>images</th>'
        f'<th>images/s</th><th class="meter"></th></tr></thead><tbody>{rows}</tbody></table></div>'
        if rows
        else '<p class="soft">No times were recorded.</p>'
    )
    return (
        '<section><h2>Where the time went</h2><p class="sub">The run that wrote this page</p>'
        f"{body}</section>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(c)}</td>' for c in row[1:])}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )

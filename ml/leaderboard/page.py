"""The page: one file of HTML that needs nothing else, neither network nor script."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files

from ml.evaluation.summary import GROUPS, SCORE, Score
from ml.leaderboard.ranking import Entry
from ml.leaderboard.story import (
    Board,
    Curve,
    Said,
    Shown,
    headline,
    percent,
    questions_words,
    split_words,
    summary,
    with_interval,
)
from pipelines.page import document, number
from pipelines.page.svg import lines

MADE_NOTE = "These figures and questions are made by a program, not real"
CONTROL_WORDS = {
    "image": "its image",
    "blank": "a gray image",
    "no_image": "no image",
    "swapped": "another image",
    "majority": "most frequent answer",
    "retrieval": "most similar question",
}
_METRIC_WORDS = {
    "strict": "closed, strict",
    "substring": "closed, substring",
    "recall": "open recall",
    "f1": "open F1",
    "exact": "open, exact",
    "bleu": "open BLEU",
}
_GROUP_WORDS = {"modality": "Modality", "question_type": "Type of question"}
_TICKS = 5


def leaderboard_page(board: Board) -> str:
    """The whole page as text."""
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    made = f'<p class="made">{MADE_NOTE}</p>' if board.made else ""
    versions = ", ".join(f"{t} version {v}" for t, v in sorted(board.versions.items()))
    main = f"""<header>
<p class="over">Leaderboard</p>
<h1>{escape(headline(board))}</h1>
{made}
<p class="lead">{escape(summary(board))}</p>
</header>
{"".join(map(_ranking, board.groups))}
{_controls(board)}
{_groups(board.best)}
{_curves(board.curves)}
{_costs(board)}
{_samples(board)}
{_worst(board)}
<footer><p>{escape(f"Tables: {versions}.")} Runs: {escape(_run_ids(board))}.</p></footer>
"""
    return document(headline(board), style, main)


def _run_ids(board: Board) -> str:
    return ", ".join(run.run_id for group in board.groups for e in group for run in e.runs)


def _section(title: str, sub: str, content: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="sub">{escape(sub)}</p>{content}</section>'


def _table(head: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    # A column without a name holds a drawing, for which a phone has no room.
    cells = "".join(
        f"<th>{escape(name)}</th>" if name else '<th class="drawing"></th>' for name in head
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _ranking(entries: Sequence[Entry]) -> str:
    first = entries[0]
    shown = [e.score for e in entries]
    whisker = _whiskers(shown)
    head = ["#", "Prototype", "", "Score", "Closed, strict", "Open F1", "Behind the first",
            "Over no image", "Over another image", "Runs"]  # fmt: skip
    rows = (
        f'<tr><td class="place">{e.place}</td><th>{escape(e.name)}</th>'
        f'<td class="drawing">{whisker(e.score)}</td><td>{_cell(e.score)}</td>'
        f"<td>{_cell(e.find('image', 'strict'))}</td><td>{_cell(e.find('image', 'f1'))}</td>"
        f"<td>{_behind(e)}</td>"
        f"<td>{_cell(e.find('image minus no_image', SCORE), signed=True)}</td>"
        f"<td>{_cell(e.find('image minus swapped', SCORE), signed=True)}</td>"
        f"<td>{_runs(e)}</td></tr>"
        for e in entries
    )
    return _section(
        f"Ranking on {questions_words(first)}",
        f"{_splits(first)} of the questions. Per cent, with 95 % intervals by image "
        "below them; folds of a prototype are put together, seeds averaged",
        _table(head, rows, "ranking"),
    )


def _splits(e: Entry) -> str:
    folds = f"Fold {', '.join(e.splits)}, version" if e.split_by == "fold" else "Version"
    return f"{folds} {e.table_version}"


def _behind(e: Entry) -> str:
    if e.place == 1:
        return '<span class="soft">first</span>'
    if e.behind is None:
        return '<span class="soft">no question in common</span>'
    told = "" if e.is_told_apart else '<span class="soft">not told apart</span>'
    return f"{_cell(e.behind)}{told}"


def _runs(e: Entry) -> str:
    notes = [f"{e.seeds} seeds"] if e.seeds > 1 else []
    if e.seed_deviation is not None:
        notes.append(f"\u00b1 {percent(e.seed_deviation)} a seed")
    return f"{len(e.runs)}" + "".join(f'<span class="soft">{note}</span>' for note in notes)


def _cell(score: Score | None, *, signed: bool = False) -> str:
    """A score, and its interval on a second line."""
    if score is None:
        return '<span class="soft">\u2013</span>'
    text = f"{100 * score.score:+.1f}" if signed else percent(score.score)
    if score.low is None or score.high is None:
        return text
    return f'{text}<span class="soft interval">{percent(score.low)} to {percent(score.high)}</span>'


def _whiskers(scores: Sequence[Score]) -> Callable[[Score], str]:
    """Draws intervals of these scores on one scale."""
    ends = [x for s in scores for x in (s.low, s.high, s.score) if x is not None]
    low, high = min(ends), max(ends)
    room = max(0.02, 0.06 * (high - low))
    low, high = low - room, high + room

    def at(value: float) -> float:
        return 200 * (value - low) / (high - low)

    def draw(score: Score) -> str:
        left = at(score.score if score.low is None else score.low)
        right = at(score.score if score.high is None else score.high)
        return (
            f'<svg class="whisker" viewBox="0 0 200 20" role="img" '
            f'aria-label="{escape(with_interval(score))}"><path class="rule" d="M0 10H200"/>'
            f'<path class="span" d="M{left:.1f} 10H{max(right, left + 1):.1f}"/>'
            f'<circle class="dot" cx="{at(score.score):.1f}" cy="10" r="5"/></svg>'
        )

    return draw


def _controls(board: Board) -> str:
    best, others = board.best, [e for group in board.groups for e in group][1:]
    more = "".join(
        f"<h3>{escape(e.name)} <span class='soft'>{escape(split_words(e))}</span></h3>"
        f"{_controls_table(e)}"
        for e in others
    )
    hidden = f"<details><summary>The other prototypes</summary>{more}</details>" if more else ""
    return _section(
        f"What {best.name} sees",
        "The same questions with another image, with none, and answered without any model. A score "
        "that stays without the image was not seen in it. Substring is how others publish closed "
        "accuracy: “no” is in “normal”",
        _controls_table(best) + hidden,
    )


def _controls_table(e: Entry) -> str:
    present = [c for c in CONTROL_WORDS if e.find(c, SCORE)]
    metrics = [m for m in _METRIC_WORDS if e.find("image", m)]
    whisker = _whiskers([s for c in present if (s := e.find(c, SCORE))])
    rows = []
    for control in present:
        score = e.find(control, SCORE)
        assert score is not None
        minus = e.find(f"image minus {control}", SCORE)
        cells = "".join(f"<td>{_cell(e.find(control, m))}</td>" for m in metrics)
        difference = _cell(minus, signed=True) if minus else '<span class="soft">\u2013</span>'
        rows.append(
            f'<tr><th>{CONTROL_WORDS[control]}</th><td class="drawing">{whisker(score)}</td>'
            f"<td>{_cell(score)}</td><td>{difference}</td>{cells}</tr>"
        )
    head = ["Answered with", "", "Score", "The image adds", *(_METRIC_WORDS[m] for m in metrics)]
    counts = [e.find("image", m) for m in metrics]
    last = "".join(f"<td>{number(s.n)}</td>" for s in counts if s)
    rows.append(
        '<tr class="soft"><th>questions</th><td class="drawing"></td>'
        f"<td>{number(e.questions)}</td><td></td>{last}</tr>"
    )
    return _table(head, rows, "controls")


def _groups(e: Entry) -> str:
    parts = []
    for group in GROUPS:
        found = {(s.value, s.control): s for s in e.scores
                 if s.group == group and s.metric == SCORE}  # fmt: skip
        shown = sorted(
            (s for (_, control), s in found.items() if control == "image"),
            key=lambda s: (-s.n, s.value),
        )
        if not shown:
            continue
        whisker = _whiskers(shown)
        rows = (
            f'<tr><th>{escape(s.value)}</th><td>{number(s.n)}</td><td class="drawing">{whisker(s)}'
            f"</td><td>{_cell(s)}</td>"
            f"<td>{_cell(found.get((s.value, 'image minus no_image')), signed=True)}</td></tr>"
            for s in shown
        )
        head = [_GROUP_WORDS[group], "Questions", "", "Score", "Over no image"]
        parts.append(f"<div>{_table(head, rows, 'groups')}</div>")
    return _section(
        f"Where {e.name} is good", "Few questions make wide intervals",
        f'<div class="charts">{"".join(parts)}</div>',
    ) if parts else ""  # fmt: skip


def _curves(curves: Sequence[Curve]) -> str:
    charts = "".join(
        f'<section><h2>Loss, stage {escape(c.stage)}</h2><p class="sub">Mean over label tokens, '
        f"nats, by optimiser step</p>{_curve(c)}</section>"
        for c in curves
    )
    return f'<div class="charts">{charts}</div>' if charts else ""


def _curve(c: Curve) -> str:
    count = len(c.steps)
    at = sorted({round(i * (count - 1) / (_TICKS - 1)) for i in range(_TICKS)}) if count else []
    # All begin at their highest, so names would lie upon each other there: they stand below.
    drawn = lines(
        [("", values) for _, values in c.series],
        alt=f"Loss by step, stage {c.stage}",
        ticks_x=at,
        tick_texts=[str(c.steps[i]) for i in at],
        unit="",
    )
    names = "".join(
        f'<li><svg viewBox="0 0 20 8" aria-hidden="true"><path class="line s{i % 4}" d="M0 4H20"/>'
        f"</svg>{escape(name)}</li>"
        for i, (name, _) in enumerate(c.series)
    )
    return f'{drawn}<ul class="legend">{names}</ul>'


def _costs(board: Board) -> str:
    entries: dict[str, Entry] = {}
    for e in (e for group in board.groups for e in group):
        entries.setdefault(e.prototype, e)  # tested by several splits, it was trained once
    most = max((run.peak_bytes or 0 for e in entries.values() for run in e.runs), default=0)
    longest = max((run.seconds or 0 for e in entries.values() for run in e.runs), default=0)
    rows = []
    for e in entries.values():
        run = max(e.runs, key=lambda r: r.peak_bytes or 0)
        seconds = [r.seconds for r in e.runs if r.seconds is not None]
        mean = sum(seconds) / len(seconds) if seconds else None
        zero = ", ".join(map(str, dict.fromkeys(run.zero_stages)))
        rows.append(
            f"<tr><th>{escape(e.name)}</th><td>{percent(e.score.score)}</td>"
            f"<td>{_size(run.parameters)}</td><td>{_size(run.trained_parameters)}</td>"
            f"<td>{run.processes}</td><td>{escape(zero)}</td>"
            f"<td>{number(run.steps) if run.steps else dash()}</td>"
            f"<td>{_time(mean)}</td>{_meter(mean, longest)}"
            f"<td>{_bytes(run.peak_bytes)}</td>{_meter(run.peak_bytes, most)}</tr>"
        )
    head = ["Prototype", "Score", "Parameters", "Trained", "Processes", "ZeRO stage", "Steps",
            "Training", "", "Peak memory", ""]  # fmt: skip
    return _section(
        "What it costs",
        "Training is wall time in its steps, without validation, the mean of the runs; memory the "
        "largest of a process in any run",
        _table(head, rows, "costs"),
    )


def dash() -> str:
    return '<span class="soft">\u2013</span>'


def _meter(value: float | None, most: float) -> str:
    share = 100 * (value or 0) / most if most else 0
    return f'<td class="drawing meter"><i style="width:{share:.1f}%"></i></td>'


def _size(n: int | None) -> str:
    """Parameters, as 135 M."""
    if n is None:
        return dash()
    for unit, of in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= of:
            return f"{n / of:.3g}\u00a0{unit}"
    return str(n)


def _bytes(n: int | None) -> str:
    """In units of 10^9 or 10^6 bytes."""
    if n is None:
        return dash()
    return f"{n / 1e9:.1f}\u00a0GB" if n >= 1e9 else f"{n / 1e6:.0f}\u00a0MB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return dash()
    if seconds < 120:
        return f"{seconds:.0f}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"


def _samples(board: Board) -> str:
    if not board.samples:
        return ""
    return _section(
        "Questions, drawn by chance",
        f"As {board.best.name} answers them",
        f'<div class="cards">{"".join(map(_card, board.samples))}</div>',
    )


def _worst(board: Board) -> str:
    if not board.worst:
        return ""
    return _section(
        "Wrong, and sure of it",
        f"Answers of {board.best.name} with no word right, the most confident first",
        f'<div class="cards">{"".join(map(_card, board.worst))}</div>',
    )


def _card(shown: Shown) -> str:
    if shown.jpeg is None:
        picture = '<span class="none">image is gone</span>'
    else:
        data = b64encode(shown.jpeg).decode("ascii")
        picture = f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{data}">'
    own, *others = sorted(shown.said, key=lambda s: list(CONTROL_WORDS).index(s.control))
    sure = "" if shown.confidence is None else f", {100 * shown.confidence:.0f}\u00a0% sure"
    rest = "".join(f"<dt>{CONTROL_WORDS[s.control]}</dt><dd>{_said(s)}</dd>" for s in others)
    return (
        f'<figure><span class="frame">{picture}</span><figcaption>'
        f'<p class="question">{escape(shown.question)}</p>'
        f"<dl><dt>truth</dt><dd><b>{escape(shown.truth)}</b></dd>"
        f"<dt>answer{sure}</dt><dd>{_said(own)}</dd>{rest}</dl></figcaption></figure>"
    )


def _said(s: Said) -> str:
    mark, kind = (
        ("✓", "right") if s.score == 1 else ("✗", "wrong") if s.score == 0 else ("~", "part")
    )
    text = escape(s.text) if s.text else "<i>nothing</i>"
    return f'<span class="{kind}">{mark}</span> {text}'

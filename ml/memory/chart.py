"""A plan as a picture: what each set-up puts into a device's memory."""

from __future__ import annotations

from typing import IO, Any

from ml.memory.footprint import Footprint, StagePlan
from ml.memory.plan import Plan
from ml.memory.search import cheapest, compared

_GB = 1e9
_INK, _SOFT, _RULE = "#1f2430", "#6b7280", "#d9dde3"
_COLOURS = {
    "weights": "#4269d0",
    "gradients": "#efb118",
    "optimiser": "#ff725c",
    "buffers": "#9ca3af",
    "activations": "#6cc5b0",
}
_FADED = 0.45  # bars that do not fit
_BAR_INCHES, _WIDTH_INCHES = 0.28, 10.5
_BETWEEN = 0.35  # of a bar, between a set-up with checkpointing and the next without


def draw(plan: Plan, out: IO[bytes]) -> None:
    """Write a PNG with one panel a stage: a bar for each set-up, and where memory ends."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [compared(stage) for stage in plan.stages]
    heights = [_BAR_INCHES * _places(len(r))[-1] + 2.0 for r in rows]
    with rc_context({"font.family": "sans-serif", "font.size": 10}):
        figure = Figure((_WIDTH_INCHES, sum(heights)), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
        for panel, stage, footprints in zip(panels, plan.stages, rows, strict=True):
            _panel(panel, stage, footprints)
        figure.savefig(out, format="png", metadata={"Software": None})


def _panel(panel: Any, stage: StagePlan, footprints: list[Footprint]) -> None:
    axes = panel.subplots()
    room = stage.devices.room / _GB
    widest = max(room, *(f.peak / _GB for f in footprints))
    places = _places(len(footprints))
    for place, footprint in zip(places, footprints, strict=True):
        fits = stage.fits(footprint)
        left = 0.0
        for name, size in _pieces(footprint).items():
            axes.barh(
                place,
                size / _GB,
                left=left,
                height=0.8,
                color=_COLOURS[name],
                alpha=None if fits else _FADED,
            )
            left += size / _GB
        # Numbers stand in a column of their own, right of all bars and of the line.
        style = {"va": "center", "fontsize": 9, "color": _INK if fits else _SOFT}
        style["weight"] = "bold" if fits else "normal"
        axes.text(widest * 1.12, place, f"{footprint.peak / _GB:.3g} GB", ha="right", **style)
        axes.text(widest * 1.14, place, "fits" if fits else "does not fit", **style)
    axes.axvline(room, color=_INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.text(
        room, -0.7, f"{room:.3g} GB to fill", color=_INK, fontsize=9, ha="center", va="bottom"
    )
    axes.tick_params(colors=_INK, length=0)
    axes.set_yticks(places, [_name(f) for f in footprints])
    for label, footprint in zip(axes.get_yticklabels(), footprints, strict=True):
        label.set_color(_INK if stage.fits(footprint) else _SOFT)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_xlim(0, widest * 1.29)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= widest])
    axes.set_xlabel("GB of a rank's device, at the peak", color=_SOFT, loc="left")
    axes.grid(axis="x", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    handles = [axes.barh(0, 0, color=colour) for colour in _COLOURS.values()]
    panel.legend(
        handles, _COLOURS, ncols=len(_COLOURS), frameon=False, loc="outside lower left", fontsize=9
    )
    panel.suptitle(_title(stage), x=0.01, ha="left", color=_INK, fontsize=11, linespacing=1.5)


def _title(stage: StagePlan) -> str:
    found = cheapest(stage)
    choice = f"cheapest that fits: {found.setup}" if found else "nothing fits"
    return f"{stage.name}, {stage.devices.counted}\n{choice}"


def _places(count: int) -> list[float]:
    """Where bars are: in pairs, without checkpointing and with it."""
    return [n + _BETWEEN * (n // 2) for n in range(count)]


def _pieces(footprint: Footprint) -> dict[str, int]:
    """What the peak is made of. Where it is in the step, what comes and goes there is optimiser."""
    states = footprint.states
    pieces = {
        "weights": states.weights,
        "gradients": states.gradients,
        "optimiser": states.masters + states.moments,
        "buffers": states.buckets + states.gathered,
    }
    if footprint.step > footprint.backward:
        pieces["buffers"] = 0
        pieces["optimiser"] += footprint.stepping
    pieces["activations"] = max(footprint.peak - sum(pieces.values()), 0)
    return pieces


def _name(footprint: Footprint) -> str:
    return "with checkpointing" if footprint.setup.checkpointing else footprint.setup.sharding

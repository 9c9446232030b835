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
_BAR_INCHES, _WIDTH_INCHES = 0.3, 10.5


def draw(plan: Plan, out: IO[bytes]) -> None:
    """Write a PNG with one panel a stage: a bar for each set-up, and where memory ends."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [compared(stage) for stage in plan.stages]
    heights = [_BAR_INCHES * len(r) + 1.5 for r in rows]
    with rc_context({"font.family": "sans-serif", "font.size": 10}):
        figure = Figure((_WIDTH_INCHES, sum(heights)), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, stage, footprints in zip(panels, plan.stages, rows, strict=True):
            _panel(axes, stage, footprints)
        figure.savefig(out, format="png", metadata={"Software": None})


def _panel(axes: Any, stage: StagePlan, footprints: list[Footprint]) -> None:
    room = stage.devices.room / _GB
    widest = max(max(f.peak for f in footprints) / _GB, room)
    for place, footprint in enumerate(footprints):
        left = 0.0
        for name, size in _pieces(footprint).items():
            axes.barh(place, size / _GB, left=left, height=0.72, color=_COLOURS[name])
            left += size / _GB
        word = "fits" if stage.fits(footprint) else "does not fit"
        axes.text(
            left + widest * 0.01,
            place,
            f"{footprint.peak / _GB:.3g} GB, {word}",
            va="center",
            color=_INK if stage.fits(footprint) else _SOFT,
            fontsize=9,
        )
    axes.axvline(room, color=_INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.text(room, -0.75, f" {room:.3g} GB to fill", color=_INK, fontsize=9, va="bottom")
    axes.set_yticks(range(len(footprints)), [_name(f) for f in footprints])
    axes.set_ylim(len(footprints) - 0.4, -1.5)
    axes.set_xlim(0, widest * 1.22)
    axes.set_xlabel("GB of a rank's device, at the peak", color=_SOFT)
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis="x", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    found = cheapest(stage)
    choice = f"cheapest that fits: {found.setup}" if found else "nothing fits"
    devices = "processes" if stage.devices.cpu else "GPUs"
    axes.set_title(
        f"{stage.name}, {devices}: {stage.devices.ranks}; {choice}",
        loc="left",
        color=_INK,
        fontsize=12,
        weight="bold",
        pad=26,
    )
    handles = [axes.barh(0, 0, color=colour) for colour in _COLOURS.values()]
    axes.legend(
        handles,
        _COLOURS,
        ncols=len(_COLOURS),
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        fontsize=9,
        handlelength=1,
    )


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
    setup = footprint.setup
    return setup.sharding + (", checkpointing" if setup.checkpointing else "")

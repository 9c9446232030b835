"""A stage's plan as text. GB are 10^9 bytes."""

from __future__ import annotations

from ml.memory.footprint import Devices, Footprint, Setup, StagePlan
from ml.memory.search import cheapest, compared, largest_micro_batch
from ml.memory.states import Sharding

RANKS = (1, 2, 4, 8, 16, 64)
_GB = 1e9


def table(stage: StagePlan) -> str:
    """What the model is, each set-up, how the states shrink with ranks, and what to take."""
    counts, devices = stage.counts(), stage.devices
    lines = [
        f"{stage.name}: {devices.counted} of {devices.bytes / _GB:.1f} GB "
        f"({devices.room / _GB:.1f} GB to fill){_host(devices)}, {stage.precision}, "
        f"micro-batch {stage.given.micro_batch}",
        "",
    ]
    for part in counts.parts:
        adapters = f", {_millions(part.adapters)} of it LoRA" if part.adapters else ""
        lines.append(
            f"  {part.name:<12} {_millions(part.trained):>10} trained{adapters}, "
            f"{_millions(part.frozen)} frozen"
        )
    lines += ["", *_adam(stage), "", *_setups(stage), "", *_by_ranks(stage), "", *_choice(stage)]
    return "\n".join(lines)


def _host(devices: Devices) -> str:
    if devices.cpu:
        return ""
    there = devices.host_bytes
    return ", host not checked" if there is None else f" with {there / _GB:.1f} GB of the host"


def by_ranks(stage: StagePlan) -> dict[str, dict[str, int]]:
    """Bytes of weights, gradients and optimiser of a rank, by ZeRO stage and number of ranks."""
    micro = stage.given.micro_batch
    return {
        str(zero): {str(n): stage.states(Setup(zero, micro, False), n).held for n in RANKS}
        for zero in range(4)
    }


def _adam(stage: StagePlan) -> list[str]:
    w = Sharding(0, 1, stage.precision).weight_bytes
    trained, frozen = stage.counts().trained, stage.counts().frozen
    master = "" if w == 4 else " + 4 fp32 master"
    lines = [
        f"Adam holds 16 bytes a trained parameter ({w} weight + {w} gradient{master} + 8 moments): "
        f"{16 * trained / _GB:.1f} GB" + (f"; {w} a frozen one" if frozen else "")
    ]
    if w == 4:
        lines.append("ZeRO 1 to 3 add an fp32 master of each fp32 weight: 4 more, shared by ranks")
    return lines


def _setups(stage: StagePlan) -> list[str]:
    head: tuple[str, ...] = (
        *("", "weights", "gradients", "optimiser", "buffers", "activations", "logits", "in step"),
        *("peak", "host", "sent", "fits"),
    )
    rows = [head, *(_row(stage, f) for f in compared(stage))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return [
        "GB a rank (c: gradient checkpointing; sent: for one optimiser step)",
        *(
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ),
    ]


def _row(stage: StagePlan, f: Footprint) -> tuple[str, ...]:
    s = f.states
    sizes = (
        s.weights,
        s.gradients,
        s.masters + s.moments,
        s.buckets + s.gathered,
        f.activations,
        f.logits,
        f.stepping,
        f.peak,
        f.host,
        f.sent,
    )
    name = f"{f.setup.sharding}{', c' if f.setup.checkpointing else ''}"
    return (name, *(f"{x / _GB:.2f}" for x in sizes), "yes" if stage.fits(f) else "no")


def _by_ranks(stage: StagePlan) -> list[str]:
    lines = [
        f"GB of weights, gradients and optimiser, by {stage.devices.kind}",
        " " * 8 + "".join(f"{n:>9}" for n in RANKS),
    ]
    for zero, held in by_ranks(stage).items():
        lines.append(f"ZeRO-{zero}  " + "".join(f"{x / _GB:>9.2f}" for x in held.values()))
    return lines


def _choice(stage: StagePlan) -> list[str]:
    given, found = stage.footprint(stage.given), cheapest(stage)
    lines = [
        f"As given ({stage.given}): {stage.needed(given) / _GB:.2f} GB, "
        + ("fits" if stage.fits(given) else "does not fit"),
        f"A checkpoint takes {given.disk / _GB:.2f} GB on disk",
    ]
    if found is None:
        return [*lines, "No set-up fits: more devices, or larger ones, or a smaller model"]
    largest = largest_micro_batch(stage, found.setup)
    return [
        *lines,
        f"Cheapest that fits: {found.setup}, {stage.needed(found) / _GB:.2f} GB"
        f"{_of_the_host(stage, found)}; its largest micro-batch is {largest}",
    ]


def _of_the_host(stage: StagePlan, found: Footprint) -> str:
    if stage.devices.cpu:
        return ""
    checked = "" if stage.devices.host_bytes is not None else ", which was not checked"
    return f" and {found.host / _GB:.2f} GB of the host{checked}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:,.1f} M"

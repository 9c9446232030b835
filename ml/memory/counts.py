"""What a model's parameters are: how many, of which part, trained or frozen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """Parameters of one part of the model; adapters are among those trained."""

    name: str
    trained: int
    frozen: int
    adapters: int


@dataclass(frozen=True)
class Counts:
    """The parameters of a model as a stage tunes it.

    `sizes` has the elements of each parameter, which say what ZeRO-3 leaves whole; `groups` those
    of each trained one, in the groups and the order of the optimiser; `largest_module`
    is the most elements that one module holds itself, all of which ZeRO-3 gathers at once;
    `buffers` are bytes of tensors that are no parameters.
    """

    parts: tuple[Part, ...]
    sizes: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    largest_module: int
    buffers: int

    @property
    def trained(self) -> int:
        return sum(part.trained for part in self.parts)

    @property
    def frozen(self) -> int:
        return sum(part.frozen for part in self.parts)

    @property
    def total(self) -> int:
        return self.trained + self.frozen

    @property
    def largest_trained(self) -> int:
        """Elements of the largest trained parameter."""
        return max((max(group) for group in self.groups), default=0)

    def whole_below(self, threshold: int) -> int:
        """Elements in parameters of fewer than `threshold`."""
        return sum(size for size in self.sizes if size < threshold)

    def of_size(self, parameters: int) -> Counts:
        """The same with so many parameters in all, of which each part has its share."""
        share = parameters / self.total
        parts = [
            replace(p, trained=round(p.trained * share), frozen=round(p.frozen * share))
            for p in self.parts
        ]
        rest = parameters - sum(p.trained + p.frozen for p in parts)
        parts[-1] = replace(parts[-1], trained=parts[-1].trained + rest)
        groups = tuple(tuple(round(n * share) for n in group) for group in self.groups)
        return replace(self, parts=tuple(parts), groups=groups)


def counts_of(model: nn.Module, groups: Iterable[Iterable[Tensor]] | None = None) -> Counts:
    """The counts of a model on any device, meta as well; its parts are its direct children.

    A parameter that several modules share counts once, where it comes first. `groups` are the
    optimiser's; without them it has one.
    """
    parts: dict[str, Part] = {}
    for name, parameter in model.named_parameters():
        part = parts.setdefault(name.split(".")[0], Part(name.split(".")[0], 0, 0, 0))
        n = parameter.numel()
        if parameter.requires_grad:
            part = replace(part, trained=part.trained + n)
            if ".lora_" in name:
                part = replace(part, adapters=part.adapters + n)
        else:
            part = replace(part, frozen=part.frozen + n)
        parts[part.name] = part
    parameters = list(model.parameters())
    if groups is None:
        groups = [[p for p in parameters if p.requires_grad]]
    return Counts(
        parts=tuple(parts.values()),
        sizes=tuple(p.numel() for p in parameters),
        groups=tuple(sizes for group in groups if (sizes := tuple(p.numel() for p in group))),
        largest_module=max(
            sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()
        ),
        buffers=sum(b.numel() * b.element_size() for b in model.buffers()),
    )

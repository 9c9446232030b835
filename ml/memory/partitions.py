"""How DeepSpeed 0.19.8 cuts trained parameters among ranks; elements, by the optimiser's groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

Groups = Sequence[Sequence[int]]

SUB_GROUP = 1_000_000_000
"""ZeRO-3 steps parameters together until a rank has so many elements; `sub_group_size`."""


def shares(groups: Groups, ranks: int) -> list[int]:
    """What a rank has of each group's masters and moments in stages 1 and 2; padding apart."""
    return [-(-sum(group) // ranks) for group in groups]


def gradients(groups: Groups, ranks: int) -> int:
    """The most gradients that a rank keeps in stages 1 and 2.

    A parameter that lies across the border of two ranks has its whole gradient on both.
    """
    change = [0] * (ranks + 1)  # from one rank to the next
    for group, share in zip(groups, shares(groups, ranks), strict=True):
        for start, end in pairwise(accumulate(group, initial=0)):
            change[start // share] += end - start
            change[(end - 1) // share + 1] -= end - start
    return max(accumulate(change))


def largest_piece(groups: Groups, ranks: int) -> int:
    """The most elements of one parameter in a rank's share of its group."""
    return max((min(max(group), -(-sum(group) // ranks)) for group in groups), default=0)


def sub_groups(groups: Groups, ranks: int) -> list[int]:
    """What a rank has of each group in stage 3 that is stepped at a time."""
    return [size for group in groups for size in _cut([-(-n // ranks) for n in group])]


def _cut(parts: Sequence[int]) -> Iterator[int]:
    if sum(parts) <= SUB_GROUP:
        yield sum(parts)
        return
    size = 0
    for part in parts:
        size += part
        if size >= SUB_GROUP:
            yield size
            size = 0
    if size:
        yield size

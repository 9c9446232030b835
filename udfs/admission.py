"""Which new members of a group may stay where the group has members of several splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def admitted(
    splits: Sequence[str | None], ties: Iterable[tuple[int, int]], members: int
) -> list[int | None]:
    """For each member the least member that it hangs together with; None where it is turned away.

    Nodes 0 to `members` - 1 are the members, oldest first; greater numbers are what members share,
    such as an article, and tie nothing by themselves. `splits` has the split of each member that
    has one, else None. Ties have a member on one side at least.

    Members with a split always stay. The others are taken oldest first, each with its ties to what
    is there already, and turned away if that would tie two splits. So one that is turned away ties
    nobody, and those that stay are as many as can be in this order.
    """
    parent: dict[int, int] = {}
    split_of: dict[int, str] = {}  # by root
    splits_at: dict[int, set[str]] = {}  # of the members with a split that share a node
    present: set[int] = set()
    neighbours: dict[int, list[int]] = {}
    for a, b in ties:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)

    def root(node: int) -> int:
        while (above := parent.get(node, node)) != node:
            parent[node] = parent.get(above, above)
            node = parent[node]
        return node

    def take(member: int) -> bool:
        # What nobody that stays shares yet is tied to nothing, and so is in no split.
        reached = {
            root(node) for node in neighbours.get(member, ()) if node >= members or node in present
        }
        own = splits[member]
        found = {split_of[r] for r in reached if r in split_of}
        shared = [node for node in neighbours.get(member, ()) if node >= members]
        if own is None:
            found.update(*(splits_at.get(node, ()) for node in shared))
            if len(found) > 1:
                return False
        else:
            # Members that had different splits before stay apart, whatever they share.
            reached = {r for r in reached if split_of.get(r, own) == own}
            found = {own}
            for node in shared:
                splits_at.setdefault(node, set()).add(own)
        present.add(member)
        least = min([member, *reached])
        for r in [member, *reached]:
            parent[r] = least
        if found:
            split_of[least] = found.pop()
        return True

    order = sorted(range(members), key=lambda m: splits[m] is None)  # stable: then oldest first
    stays = [m for m in order if take(m)]
    least_of: list[int | None] = [None] * members
    for member in stays:
        least_of[member] = root(member)
    return least_of

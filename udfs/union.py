"""Connected components of edges in memory, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def least_connected(a: Ids, b: Ids) -> tuple[Ids, Ids]:
    """Every id that the edges a[i] - b[i] name, and the least id that is connected with it.

    Each round ties the root of every tree that has an edge to a lesser one to the least such root,
    and then shortens all ways to one step. A tree that is less than all its neighbours is tied in
    the round after one of them was, so trees halve with every two rounds, for chains and stars too.
    """
    ids, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    a, b = places[: len(a)], places[len(a) :]
    root = np.arange(len(ids))
    while len(a):
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(shorter := root[root], root):
            root = shorter
        a, b = root[a], root[b]
        open_ = a != b
        a, b = a[open_], b[open_]
    return ids, ids[root]

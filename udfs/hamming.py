"""Pairs of 64-bit hashes that differ in few bits, without comparing all with all.

Multi-index hashing (Norouzi, Punjani, Fleet, "Fast exact search in Hamming space with multi-index
hashing", 2014): hashes are cut into m bands, and where two differ in at most d bits, at least one
band differs in at most its radius, if the radii add up to d - m + 1. So a band is looked up as it
is and with every choice of up to `radius` of its bits flipped, in a table by the band's value.

A pair is given once: by the first band that differs in no more than its radius, from the side
whose band is the lesser. A bucket that holds very many hashes on both sides is searched by the
bits outside its band, in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

BITS = 64
MAX_BAND_BITS = 22
"""A table by the value of a band has at most 2^22 entries, 32 MB."""

_LOOKUP_COST = 2.0
"""Of one look-up, in comparisons of two hashes."""

_CHUNK = 1 << 21
"""Pairs that are compared at a time."""

_MANY = 4096
"""Entries of a bucket from which it may be searched by its other bits."""

_ALL_WITH_ALL = 1 << 22
"""Pairs up to which comparing all is quicker than looking up."""

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]
Pairs = tuple[Places, Places]


@dataclass(frozen=True)
class Band:
    """`bits` bits of a hash from `start`, counted from the highest, that may differ in `radius`."""

    start: int
    bits: int
    radius: int

    @property
    def mask(self) -> int:
        """The band's bits within a hash."""
        return ((1 << self.bits) - 1) << (BITS - self.start - self.bits)

    def flips(self) -> list[int]:
        """Every choice of up to `radius` of the band's bits, as values of the band."""
        return [
            sum(1 << bit for bit in chosen)
            for size in range(self.radius + 1)
            for chosen in combinations(range(self.bits), size)
        ]


def bands_for(count: int, distance: int, width: int = BITS) -> tuple[Band, ...]:
    """The cheapest bands for the highest `width` bits of `count` hashes that differ in `distance`.

    Few long bands cost look-ups, many short ones comparisons; which weigh more depends on `count`.
    """

    longest = min(MAX_BAND_BITS, max(4, count.bit_length() + 2))  # no table longer than it pays

    def cut(bands: int) -> tuple[Band, ...]:
        flips, wide = distance - bands + 1, width // bands
        bits = min(wide, longest)
        return tuple(
            Band(i * wide, bits, min(bits, flips // bands + (i < flips % bands)))
            for i in range(bands)
        )

    def cost(bands: tuple[Band, ...]) -> float:
        return sum(
            comb(band.bits, flipped) * (_LOOKUP_COST + count / 2**band.bits)
            for band in bands
            for flipped in range(band.radius + 1)
        )

    return min((cut(n) for n in range(1, min(distance + 1, width) + 1)), key=cost)


def pairs_among(hashes: Hashes, distance: int, width: int = BITS) -> Pairs:
    """Places of every two hashes that differ in at most `distance` bits, each pair once.

    Only the highest `width` bits may be set.
    """
    if len(hashes) ** 2 <= 2 * _ALL_WITH_ALL or width <= distance:
        return joined(_compare_among(hashes, distance))
    bands = bands_for(len(hashes), distance, width)
    (hashes,) = _dealt(bands, width, hashes)
    if not _pays(hashes, hashes, bands, width):
        return joined(_compare_among(hashes, distance))
    return joined(
        pairs
        for n, band in enumerate(bands)
        for pairs in band_pairs_among(hashes, bands, n, distance, range(1 << band.bits), width)
    )


def pairs_between(queries: Hashes, others: Hashes, distance: int, width: int = BITS) -> Pairs:
    """As `pairs_among`, of one of `queries` and one of `others` each."""
    if len(queries) * len(others) <= _ALL_WITH_ALL or width <= distance:
        return joined(_compare(queries, others, distance))
    bands = bands_for(len(others), distance, width)
    queries, others = _dealt(bands, width, queries, others)
    if not _pays(queries, others, bands, width):
        return joined(_compare(queries, others, distance))
    return joined(
        pairs
        for n in range(len(bands))
        for pairs in band_pairs_between(queries, others, bands, n, distance, width)
    )


def band_pairs_among(
    hashes: Hashes,
    bands: tuple[Band, ...],
    n: int,
    distance: int,
    lesser: range,
    width: int = BITS,
) -> Iterator[Pairs]:
    """The pairs among hashes that band `n` gives, in chunks, as places.

    Only those of which the lesser value of the band is in `lesser`, so that the work can be cut.
    """
    band = bands[n]
    turned, order, keys, starts = _table(hashes, band, width)
    first, last = np.searchsorted(keys, [lesser.start, lesser.stop])
    asked, asked_keys = turned[first:last], keys[first:last]
    for flip in band.flips():
        if flip == 0:
            chunks = _within_buckets(turned, starts, lesser, band, distance, width)
            offset = 0
        else:
            # The lesser side has no 1 where the highest flipped bit is.
            asking = np.flatnonzero((asked_keys & (1 << (flip.bit_length() - 1))) == 0)
            targets = asked_keys[asking] ^ flip
            chunks = _look_up(asked, asking, targets, turned, starts, band, flip, distance, width)
            offset = first
        for here, there in chunks:
            new = _is_first(turned[here + offset] ^ turned[there], bands, n, width)
            yield order[here[new] + offset], order[there[new]]


def band_pairs_between(
    queries: Hashes,
    others: Hashes,
    bands: tuple[Band, ...],
    n: int,
    distance: int,
    width: int = BITS,
) -> Iterator[Pairs]:
    """The pairs of a query and another hash that band `n` gives, in chunks, as places."""
    band = bands[n]
    turned, order, _, starts = _table(others, band, width)
    asked, asked_order, keys, _ = _table(queries, band, width)
    all_of_them = np.arange(len(asked))
    for flip in band.flips():
        for here, there in _look_up(
            asked, all_of_them, keys ^ flip, turned, starts, band, flip, distance, width
        ):
            new = _is_first(asked[here] ^ turned[there], bands, n, width)
            yield asked_order[here[new]], order[there[new]]


def _dealt(bands: tuple[Band, ...], width: int, *sides: Hashes) -> tuple[Hashes, ...]:
    """The sides with their bits in another order: each band gets its share of those that differ
    most among the hashes of the last side, or hashes alike in the bits of a band would all be in
    one bucket of it.
    """
    bits = np.arange(BITS - 1, BITS - 1 - width, -1).astype(np.uint64)  # of value 2^63, 2^62 ...
    ones = np.array([np.count_nonzero(sides[-1] & (np.uint64(1) << bit)) for bit in bits])
    most_even = bits[np.argsort(np.abs(2 * ones - len(sides[-1])), kind="stable")]
    places = [b.start + i for i in range(bands[0].bits) for b in bands]  # bands are equally long
    places += sorted(set(range(width)) - set(places))
    dealt = [np.zeros_like(side) for side in sides]
    for place, bit in zip(places, most_even, strict=True):
        for new, side in zip(dealt, sides, strict=True):
            new |= ((side >> bit) & np.uint64(1)) << np.uint64(BITS - 1 - place)
    return tuple(dealt)


def _pays(queries: Hashes, others: Hashes, bands: tuple[Band, ...], width: int) -> bool:
    """Whether looking up compares less than half of all with all.

    Buckets are searched within buckets only where it does. So no search compares more than all
    with all would, however alike the hashes; without, those that share most of their bits would
    be in one bucket of each band, and in one of each band within that, and so on.
    """
    compared = 0
    for band in bands:
        asked, there = (
            _bucket_sizes(_keys(_turned(side, band.start, width), band), band)
            for side in (queries, others)
        )
        places = np.arange(len(there))
        compared += sum(int(asked @ there[places ^ flip]) for flip in band.flips())
    return 2 * compared < len(queries) * len(others)


def joined(chunks: Iterable[Pairs]) -> Pairs:
    """Chunks of pairs as one."""
    sides = [(np.empty(0, np.int64), np.empty(0, np.int64)), *chunks]
    return np.concatenate([s[0] for s in sides]), np.concatenate([s[1] for s in sides])


def _turned(hashes: Hashes, by: int, width: int) -> Hashes:
    """Hashes with their highest `width` bits moved `by` places to the left, in a circle."""
    if by == 0:
        return hashes
    kept = np.uint64(((1 << width) - 1) << (BITS - width))
    return ((hashes << np.uint64(by)) | (hashes >> np.uint64(width - by))) & kept


def _table(hashes: Hashes, band: Band, width: int) -> tuple[Hashes, Places, Places, Places]:
    """Hashes turned so that the band is highest, and sorted; with their places as they were, the
    values of the band, and where each of its values starts.
    """
    turned = _turned(hashes, band.start, width)
    order = np.argsort(turned)
    turned = turned[order]
    keys = _keys(turned, band)
    starts = np.zeros((1 << band.bits) + 1, np.int64)
    np.cumsum(_bucket_sizes(keys, band), out=starts[1:])
    return turned, order, keys, starts


def _keys(turned: Hashes, band: Band) -> Places:
    """The values of a band, to which the hashes are turned."""
    return (turned >> np.uint64(BITS - band.bits)).astype(np.int64)


def _bucket_sizes(keys: Places, band: Band) -> Places:
    """How many hashes have each value of the band."""
    return np.bincount(keys, minlength=1 << band.bits)


def _is_first(differ: Hashes, bands: tuple[Band, ...], n: int, width: int) -> NDArray[np.bool_]:
    """Whether no band before band `n`, to which the hashes are turned, gives the pairs."""
    first = np.ones(len(differ), bool)
    for band in bands[:n]:
        mask = _turned(np.array([band.mask], np.uint64), bands[n].start, width)
        first &= np.bitwise_count(differ & mask) > band.radius
    return first


def _within_buckets(
    turned: Hashes, starts: Places, keys: range, band: Band, distance: int, width: int
) -> Iterator[Pairs]:
    """Pairs of hashes with the same value of the band, which is in `keys`."""
    sizes = np.diff(starts[keys.start : keys.stop + 1])
    for key in np.flatnonzero(sizes > _MANY) + keys.start:
        low, high = starts[key], starts[key + 1]
        rest = turned[low:high] << np.uint64(band.bits)
        here, there = pairs_among(rest, distance, width - band.bits)
        yield here + low, there + low
    first, last = starts[keys.start], starts[keys.stop]
    ends = np.repeat(starts[keys.start + 1 : keys.stop + 1], sizes)
    after = np.arange(first + 1, last + 1)
    few = np.repeat(sizes <= _MANY, sizes)
    for here, there in _spread(after, np.where(few, ends - after, 0)):
        yield from _near(turned, turned, here + first, there, distance)


def _look_up(
    queries: Hashes,
    asking: Places,
    targets: Places,
    others: Hashes,
    starts: Places,
    band: Band,
    flip: int,
    distance: int,
    width: int,
) -> Iterator[Pairs]:
    """Pairs of queries, at the places `asking`, with what lies in the buckets `targets`."""
    low = starts[targets]
    sizes = starts[targets + 1] - low
    many = np.flatnonzero(sizes > _MANY)
    if len(many):
        many = many[np.argsort(targets[many], kind="stable")]
        for chosen in np.split(many, np.flatnonzero(np.diff(targets[many])) + 1):
            start, size = low[chosen[0]], sizes[chosen[0]]
            asked = queries[asking[chosen]] << np.uint64(band.bits)
            rest = others[start : start + size] << np.uint64(band.bits)
            left = distance - flip.bit_count()
            here, there = pairs_between(asked, rest, left, width - band.bits)
            yield asking[chosen][here], there + start
        sizes[many] = 0
    for here, there in _spread(low, sizes):
        yield from _near(queries, others, asking[here], there, distance)


def _spread(low: Places, sizes: Places) -> Iterator[Pairs]:
    """For each place i the pairs (i, low[i]), (i, low[i] + 1) ... `sizes[i]` of them, in chunks."""
    hit = np.flatnonzero(sizes)
    ends = np.cumsum(sizes[hit])
    done = 0
    while done < len(hit):
        before = ends[done - 1] if done else 0
        until = max(int(np.searchsorted(ends, before + _CHUNK, side="right")), done + 1)
        of = hit[done:until]
        size = sizes[of]
        offset = np.repeat(low[of] - (ends[done:until] - size - before), size)
        yield np.repeat(of, size), offset + np.arange(len(offset))
        done = until


def _near(a: Hashes, b: Hashes, here: Places, there: Places, distance: int) -> Iterator[Pairs]:
    near = np.flatnonzero(np.bitwise_count(a[here] ^ b[there]) <= distance)
    if len(near):
        yield here[near], there[near]


def _compare(a: Hashes, b: Hashes, distance: int) -> Iterator[Pairs]:
    step = max(1, _CHUNK // max(1, len(b)))
    for start in range(0, len(a), step):
        differ = a[start : start + step, None] ^ b[None, :]
        here, there = np.nonzero(np.bitwise_count(differ) <= distance)
        yield here + start, there


def _compare_among(hashes: Hashes, distance: int) -> Iterator[Pairs]:
    for here, there in _compare(hashes, hashes, distance):
        once = here < there
        yield here[once], there[once]

"""Items that belong together, directly or through others: numbered alike, by array operations alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unite(one: NDArray[np.integer], other: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """(item,) the lowest of the items that each of `count` items hangs together with, itself included.

    `one` and `other` are (link,) and say which items are linked, in any order. As in Shiloach and Vishkin 1982, "An O(log n)
    parallel connectivity algorithm", each item points to a lower one that it is linked with, and all follow these pointers to
    their ends; what is still apart then is united in the same way, the ends as items.
    """
    ends = np.arange(count)
    ends[np.maximum(one, other)] = np.minimum(one, other)
    while not np.array_equal(further := ends[ends], ends):
        ends = further
    one, other = ends[one], ends[other]
    apart = np.flatnonzero(one != other)
    if len(apart):
        items, places = np.unique(np.stack([one[apart], other[apart]]), return_inverse=True)
        one, other = places.reshape(2, -1)
        ends[items] = items[unite(one, other, len(items))]
        ends = ends[ends]
    return ends

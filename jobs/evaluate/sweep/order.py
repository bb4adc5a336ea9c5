"""The order in which a sweep's items are decoded, so that what can be said before its end is not biased.

Units that finish early are short ones, however they are handed out: a mean over whatever has finished says of the
model that it thinks less than it does, and that it is right as often as on easy items. So items are put into an order
that nothing measured has a part in (a hash of their ids), and the order is cut into blocks that double: an eighth of a
task's items, a quarter, half, all. Blocks are decoded one after the other, each with its longest units first, and a
result is shown only once a block and all before it are whole: every sample of each of its items under every policy.
Then it is what a sweep of those items alone would have said.

What is left is the reader's own choice of when to look. At one instant a block is whole or not by how long its items
are, so a block that is small would be seen early where it happens to be short; that is why the first is an eighth, and
:data:`LEAST` items at least, and not every prefix is shown. ``tests/evaluate/sweep/test_order.py`` simulates it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from math import ceil

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of a task's items: what is done when each block is."""
LEAST = 16
"""Items of the first block: the longest of so many is long."""


def blocks(task: str, items: Iterable[str]) -> dict[str, int]:
    """The number of each item's block, from 0; the last is ``len(SHARES) - 1`` where there are items enough for all."""
    order = sorted(set(items), key=lambda item: hashlib.sha256(f"{task}\0{item}".encode()).digest())
    ends = [ceil(share * len(order)) for share in SHARES]
    ends = [end for end in ends if end >= min(LEAST, len(order))]
    return {item: next(number for number, end in enumerate(ends) if place < end) for place, item in enumerate(order)}

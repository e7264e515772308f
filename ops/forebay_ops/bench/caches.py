"""Between two measurements of the same thing, other work: none of a service's is done with the processor's caches to
itself."""

from collections.abc import Callable

import numpy as np

_BYTES = 16 * 2**20
_READS = 50_000
"""More than the caches of a core hold, read in no order, in a millisecond."""


def other_work() -> Callable[[], object]:
    """What leaves nothing in a core's caches of what was in them."""
    memory = np.zeros(_BYTES // 8)
    places = np.random.default_rng(1).integers(0, len(memory), _READS)
    return lambda: memory[places].sum()

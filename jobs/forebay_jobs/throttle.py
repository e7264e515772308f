"""Taking batch requests in at a limited rate, a lower one while interactive requests wait."""

import time
from collections.abc import Callable

from forebay_schemas.sections import BatchConfig

BUSY_FOR_S = 0.5
"""How long after an interactive request came to the desk the job counts as busy: about a wave of traffic."""


class Pressure:
    """When an interactive request last needed more than the exact cache, in this process. A hint, not state."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last = float("-inf")

    def note_interactive(self) -> None:
        """An interactive request arrived at the desk."""
        self._last = self._monotonic()

    @property
    def busy(self) -> bool:
        """Whether interactive requests are waiting or were a moment ago."""
        return self._monotonic() - self._last < BUSY_FOR_S


class BatchThrottle:
    """Spaces batch requests out; Flink's backpressure then slows their source and nothing piles up."""

    def __init__(
        self,
        settings: BatchConfig,
        pressure: Pressure,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._pressure = pressure
        self._monotonic = monotonic
        self._sleep = sleep
        self._next = float("-inf")

    def wait(self) -> None:
        """Return when the next batch request may be taken."""
        while (left_s := self._next - self._monotonic()) > 0:
            # Short naps: when the pressure ends, so does the wait of the busy rate.
            if not self._pressure.busy:
                left_s = min(left_s, 1 / self._settings.idle_rate_per_s)
                self._sleep(left_s)
                break
            self._sleep(min(left_s, 0.05))
        rate = self._settings.busy_rate_per_s if self._pressure.busy else self._settings.idle_rate_per_s
        self._next = max(self._next, self._monotonic()) + 1 / rate

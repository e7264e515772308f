"""Taking batch requests in at a limited rate: a lower one while interactive requests wait, and hardly any while so many
questions wait to be embedded that soon there is no room for anybody's."""

import time
from collections.abc import Callable

from forebay_schemas.sections import BatchConfig

BUSY_FOR_S = 0.5
"""How long after an interactive request was no exact hit the job counts as busy: about a wave of traffic."""
CROWDED_FOR_S = 2.0
"""How long after it was said the line counts as long. While there is no room at all, it is said with each batch of
questions that was embedded."""
CROWDED_RATE_PER_S = 10.0
"""Not none: a checkpoint waits until the request that is being taken in has been, and all that the desk is asked with
it."""
_NAP_S = 0.05
"""So soon a change of the pressure is noticed."""


class Pressure:
    """What batch requests give way to, in this process. Hints that fade, not state."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._interactive_s = self._crowded_s = float("-inf")

    def note_interactive(self) -> None:
        """An interactive request needs more than the exact cache."""
        self._interactive_s = self._monotonic()

    def note_crowded(self) -> None:
        """The line of the questions that are to be embedded is long."""
        self._crowded_s = self._monotonic()

    @property
    def busy(self) -> bool:
        """Whether interactive requests are waiting or were a moment ago."""
        return self._monotonic() - self._interactive_s < BUSY_FOR_S

    @property
    def crowded(self) -> bool:
        """Whether the line is long or was a moment ago."""
        return self._monotonic() - self._crowded_s < CROWDED_FOR_S


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
        self._taken_s = float("-inf")

    def wait(self) -> None:
        """Return when the next batch request may be taken."""
        while (left_s := self._taken_s + 1 / self._rate_per_s() - self._monotonic()) > 0:
            self._sleep(min(left_s, _NAP_S))
        self._taken_s = self._monotonic()

    def _rate_per_s(self) -> float:
        """The rate of now: when the pressure ends, so does its wait."""
        idle, busy = self._settings.idle_rate_per_s, self._settings.busy_rate_per_s
        if self._pressure.crowded:
            return min(idle, busy, CROWDED_RATE_PER_S)
        return busy if self._pressure.busy else idle

"""Load shedding: while more comes than is worked off, some are refused early, so that the others are answered in time.

Who waits longest is read first. Where more comes than can be done, all would wait until hardly any of their time is
left, and be worked on for nothing. A burst is no reason to refuse anybody, as long as all of it can be answered in
time: as in CoDel (Nichols and Jacobson, Controlling Queue Delay, 2012), what counts is a wait that nobody was spared
for a whole while.
"""

from .messages import Asker

SHARE = 1 / 4
"""Of its time, the most that a request waits to be read while more comes than is worked off. The rest is for the desk,
for the line of a model, where half of the time may be over, and for the answer."""

_MOST_BEHIND_MS = 1_000
"""What all who ask may be behind by without being taken for a queue."""
_PAUSE_MS = 1_000
"""After so long in which nothing is read, as where the job or the brokers were away, all is a burst."""
_BITS = 32
"""Waits from 2 to the power of these on, in milliseconds, are taken to be alike: weeks."""


class StandingQueue:
    """Those who wait to be read, as far as those who were read tell. Times are in milliseconds since the epoch."""

    def __init__(self) -> None:
        self._prompt_ms = [0] * (_BITS + 1)
        """When somebody was last read who had waited for less than 2 to the power of the place."""
        self._busy_from_ms = self._read_ms = 0
        self._least_ms = _MOST_BEHIND_MS
        """The shortest wait of all: what clocks differ by, and what whoever asks takes itself."""

    def read(self, asker: Asker, now_ms: int) -> None:
        """This one is read now."""
        waited_ms = now_ms - asker.created_ms
        if waited_ms < 0:
            return  # by a clock that is ahead
        if asker.created_ms > self._read_ms or now_ms - self._read_ms >= _PAUSE_MS:
            self._busy_from_ms = now_ms  # nobody waited, or nobody was read, whose burst is to be worked off now
        self._read_ms = now_ms
        self._least_ms = min(self._least_ms, waited_ms)
        bits = min((waited_ms - self._least_ms).bit_length(), _BITS)
        self._prompt_ms[bits:] = [now_ms] * (_BITS + 1 - bits)

    def sheds(self, asker: Asker, now_ms: int) -> bool:
        """Whether this one, which has just been read, is refused: more than a share of its time is over, and so it was
        with all who were read for as long as it has in all."""
        if asker.deadline_ms is None:
            return False
        had_ms = asker.deadline_ms - asker.created_ms
        most_ms = round(had_ms * SHARE)
        if now_ms - asker.created_ms - self._least_ms <= most_ms:
            return False
        place = min(max(1, most_ms).bit_length() - 1, _BITS)
        return now_ms - max(self._prompt_ms[place], self._busy_from_ms) >= had_ms

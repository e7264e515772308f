"""The completion window of batch tasks: from when on each of them presses, and how many places they need to hold it."""

from dataclasses import dataclass

from forebay_schemas.records import Request
from forebay_schemas.sections import WorkerConfig

_RECENT = 1_000


@dataclass(frozen=True, slots=True)
class Window:
    """The time that batch tasks have.

    Attributes:
        length_ms: from a task's creation to the end of its window; its deadline may come first.
        margin_ms: how long before its end a task presses; half of its time at most.
    """

    length_ms: float
    margin_ms: float

    @classmethod
    def of(cls, config: WorkerConfig) -> "Window":
        return cls(config.completion_window_s * 1000, config.raise_before_s * 1000)

    def presses_at_ms(self, request: Request) -> float:
        """From then on places are kept for a task, and it does not wait for a model to come back; since the epoch."""
        time_ms = self.length_ms
        if request.deadline_ms is not None:
            time_ms = min(time_ms, request.deadline_ms - request.created_ms)
        return request.created_ms + time_ms - min(self.margin_ms, time_ms / 2)


class Pace:
    """For how long a generation keeps a place of its model, rests left out: the mean of about the last thousand."""

    def __init__(self) -> None:
        self._places = 0
        self._since_ms = 0.0
        self._kept_ms = 0.0
        self._answered = 0

    def keeps(self, places: int, now_ms: float) -> None:
        """So many places are kept from now on."""
        self._kept_ms += self._places * max(0.0, now_ms - self._since_ms)
        self._places, self._since_ms = places, now_ms

    def answered(self) -> None:
        """A generation came to its end."""
        self._answered += 1
        if self._answered == 2 * _RECENT:
            self._answered //= 2
            self._kept_ms /= 2

    def places_for(self, count: int, within_ms: float) -> int:
        """How many places it takes to answer so many in this time; 0 where less than one would do, or none is known.

        Args:
            within_ms: above 0.
        """
        return int(count * self._kept_ms / self._answered / within_ms) if self._answered else 0

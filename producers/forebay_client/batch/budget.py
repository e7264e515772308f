"""Keeps a batch below its price ceiling, whatever the rows that are out come to cost."""

from collections.abc import Callable, Iterable, Iterator

from .collecting import Collector
from .rows import Row

MOST_OUTSTANDING = 20_000
"""Rows that are awaited at once under a ceiling; what each may cost is held in memory."""
_WAIT_S = 0.2


class Budget:
    """What is spent, and what the rows that are out may cost at most.

    Args:
        ceiling_usd: US dollars that may not be passed.
    """

    def __init__(self, ceiling_usd: float, collector: Collector) -> None:
        self._ceiling_usd = ceiling_usd
        self._collector = collector
        self._may_cost: dict[int, float] = {}
        self._reserved = 0.0
        self._spent = 0.0

    def go_on(self, read: Iterable[Row], may_cost: Callable[[Row], float | None]) -> None:
        """Take up what another process published.

        Args:
            read: the rows that it was at, in their order.
            may_cost: of one that has no reply; None where it was refused, so that none is awaited.
        """
        self._collector.catch_up()
        answered = self._collector.journal.rows()
        next_answered = next(answered, 0)
        for row in read:
            while next_answered and next_answered < row.number:
                next_answered = next(answered, 0)
            if next_answered != row.number and (usd := may_cost(row)) is not None:
                self.reserve(row.number, usd)
        self._spent = self._collector.cost

    def reserve(self, row: int, may_cost: float) -> None:
        """A row is to be published."""
        self._may_cost[row] = may_cost
        self._reserved += may_cost

    def has_room(self, may_cost: float) -> bool:
        """Whether a row that may cost so much can be published now."""
        fits = self._spent + self._reserved + may_cost <= self._ceiling_usd
        return fits and len(self._may_cost) < MOST_OUTSTANDING

    def wait_for(self, may_cost: float) -> Iterator[None]:
        """Collect replies until a row can be published, or none is out whose reply could make room."""
        while self._may_cost and not self.has_room(may_cost):
            for row in self._collector.collect(_WAIT_S):
                self._may_cost.pop(row, None)
            self._reserved = sum(self._may_cost.values())
            self._spent = self._collector.cost
            yield

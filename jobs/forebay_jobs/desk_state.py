"""What the desk remembers, as it asks for it; `operators.desk` keeps it in Flink's keyed state."""

from typing import Protocol

from .messages import Asker, Flight


class DeskState(Protocol):
    """The memory of one bucket. Survives failures as of the last checkpoint."""

    def flight(self, key: str) -> Flight | None: ...

    def put_flight(self, key: str, flight: Flight) -> None: ...

    def drop_flight(self, key: str) -> None: ...

    def waiter(self, key: str, number: int) -> Asker | None: ...

    def put_waiter(self, key: str, number: int, asker: Asker) -> None: ...

    def drop_waiter(self, key: str, number: int) -> None: ...

    def add_pending(self, key: str) -> None:
        """Note a flight whose leader waits for the next batch, and see that ``tick`` is called for it soon."""
        ...

    def take_pending(self) -> list[str]:
        """The flights noted since the last call, in order."""
        ...

    def wake(self, key: str, at_ms: int) -> None:
        """See that ``tick`` is called soon after a time and finds the flight due."""
        ...

    def take_due(self, now_ms: int) -> list[str]:
        """The flights whose time has come; a key may be named twice or be gone."""
        ...

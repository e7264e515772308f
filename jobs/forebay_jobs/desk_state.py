"""What the desk remembers, as it asks for it; `operators.desk` keeps it in Flink's keyed state."""

from typing import Protocol

from forebay_schemas.records import Result

from .messages import Asker, Flight, Invalidate, Place, Thumb


class DeskState(Protocol):
    """The memory of one bucket. Survives failures as of the last checkpoint."""

    bucket: str

    def flight(self, key: str) -> Flight | None: ...

    def put_flight(self, key: str, flight: Flight) -> None: ...

    def drop_flight(self, key: str) -> None: ...

    def waiter(self, key: str, number: int) -> Asker | None: ...

    def put_waiter(self, key: str, number: int, asker: Asker) -> None: ...

    def drop_waiter(self, key: str, number: int) -> None: ...

    def place(self, name: str) -> Place | None:
        """Where the request of a name (``Asker.name``) waits."""
        ...

    def put_place(self, name: str, place: Place) -> None: ...

    def drop_place(self, name: str) -> None: ...

    def names(self, prefix: str) -> list[str]:
        """Of the requests that wait, those that begin so. It looks at all of them."""
        ...

    def add_pending(self, key: str) -> None:
        """Note a flight whose leader waits for what is known by meaning, and see that ``tick`` is called soon."""
        ...

    def take_new(self) -> list[str]:
        """The flights so noted since the last call, in order; at the first of a life, those of the life before too."""
        ...

    def drop_pending(self, key: str) -> None: ...

    def look_soon(self) -> None:
        """See that ``tick`` is called soon."""
        ...

    def wake(self, key: str, at_ms: int) -> None:
        """See that ``tick`` is called soon after a time and finds the flight due."""
        ...

    def take_due(self, now_ms: int) -> list[str]:
        """The flights whose time has come; a key may be named twice or be gone."""
        ...

    def orphan(self, task_id: str) -> Result | None: ...

    def put_orphan(self, result: Result) -> None: ...

    def drop_orphan(self, task_id: str) -> None: ...

    def orphan_queue(self) -> list[tuple[int, str]]:
        """Until when (milliseconds since the epoch) which task's orphan is kept, oldest first; some may be gone."""
        ...

    def put_orphan_queue(self, queue: list[tuple[int, str]]) -> None: ...

    def add_invalidation(self, command: Invalidate) -> None:
        """Keep a command that is not applied yet."""
        ...

    def take_invalidations(self) -> list[Invalidate]:
        """Those added since the last call, in order."""
        ...

    def learned(self) -> dict[str, tuple[int, bytes]]:
        """What was put under each key, and when (milliseconds since the epoch)."""
        ...

    def put_learned(self, key: str, now_ms: int, learned: bytes) -> None: ...

    def drop_learned(self, key: str) -> None: ...

    def add_thumb(self, thumb: Thumb) -> None:
        """Keep what was said of an answer until the stores can take it."""
        ...

    def take_thumbs(self) -> list[Thumb]:
        """Those added since the last call, in order."""
        ...
